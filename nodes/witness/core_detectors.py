"""Object detectors that ComfyUI itself runs, RT-DETR and SAM 3, as finders of the witness of things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import nodes as comfy_nodes

from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Picture
from ...clvr_core.witness.detectors import Detection, found_things
from ...clvr_core.witness.things import Found, singular
from ..host.pictures import as_image

RT_DETR, SAM_3 = "RTDETR_detect", "SAM3_Detect"
"""Ids of the nodes of ComfyUI that run a detector."""
NODE_OF = {"RT_DETR_v4": RT_DETR, "SAM3": SAM_3, "SAM31": SAM_3}
"""Kind of a MODEL, as ComfyUI's model detection names it -> the node that runs it."""
MOST = 64
"""Things of one name that are asked for."""
USABLE = "an RT-DETR or SAM 3 model in Load Diffusion Model or Load Checkpoint"


class CoreDetector:
    """Finds things by calling the node of ComfyUI that runs this model.

    name: of the model, with a digest of its weights.
    clip: SAM 3's text encoder; RT-DETR needs none.
    """

    def __init__(self, model: Any, clip: Any, digest: str) -> None:
        """Raises BadInput for a model that is no detector, and for SAM 3 without its text encoder."""
        kind = kind_of(model)
        if kind not in NODE_OF:
            raise BadInput(
                f"detector of Witnesses is {f'a {kind} model' if kind else 'a model of another kind'}, which finds no objects; "
                f"link {USABLE}"
            )
        self._node = comfy_nodes.NODE_CLASS_MAPPINGS.get(NODE_OF[kind])
        if self._node is None:
            raise BadInput(f"this ComfyUI has no node {NODE_OF[kind]}, which runs the detector; update ComfyUI")
        if NODE_OF[kind] == SAM_3 and clip is None:
            raise BadInput(
                "detector of Witnesses is SAM 3, which looks for words; link the CLIP output of the same Load Checkpoint to "
                "detector_clip"
            )
        self._model, self._clip, self._sam = model, clip, NODE_OF[kind] == SAM_3
        self.name = f"{kind} {digest[:8]}"

    def knows(self, thing: str) -> bool:
        return self._sam or thing in _coco()

    def find(self, picture: Picture, things: Sequence[str]) -> list[Found]:
        """Return the things of these names, as a witness asks for them."""
        # A witness looks in a thread of its own, which ComfyUI's inference mode does not reach.
        with torch.inference_mode():
            found = self._by_words(picture, things) if self._sam else self._by_class(picture)
        return found_things(found, picture, things)

    def _by_class(self, picture: Picture) -> list[Detection]:
        (boxes,) = self._node.execute(self._model, as_image(picture), 0.0, "all", 300).args
        return [_detection(one["label"], one) for one in boxes[0]]

    def _by_words(self, picture: Picture, things: Sequence[str]) -> list[Detection]:
        found = []
        for thing in things:
            words = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(f"{thing}:{MOST}"))
            _, boxes = self._node.execute(
                self._model, as_image(picture), conditioning=words, threshold=0.05, refine_iterations=0
            ).args
            found += [_detection(thing, one) for one in boxes[0]]
        return found


def kind_of(model: Any) -> str:
    """The kind of a MODEL as ComfyUI's model detection names it; "" if it has none."""
    config = getattr(getattr(model, "model", None), "model_config", None)
    return str((getattr(config, "unet_config", None) or {}).get("image_model", ""))


def _coco() -> frozenset[str]:
    from comfy.ldm.rt_detr.rtdetr_v4 import COCO_CLASSES

    return frozenset(singular(name.lower()) for name in COCO_CLASSES)


def _detection(name: str, box: dict[str, Any]) -> Detection:
    left, top = float(box["x"]), float(box["y"])
    return Detection(name, (left, top, left + float(box["width"]), top + float(box["height"])), float(box["score"]))
