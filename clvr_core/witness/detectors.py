"""Object detectors that transformers runs, from a folder: of fixed classes, or of any words (OWLv2, Grounding DINO,
SAM 3, Florence-2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..protocols import Picture
from .things import Found, singular

PixelBox = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""
Run = Callable[[Any, Sequence[str]], Any]
"""A PIL picture and the names that are looked for -> what a pipeline of transformers returns: dicts with label, score,
and box or mask."""


@dataclass(frozen=True)
class Detection:
    """mask: bool H x W, or None if the detector draws boxes only."""

    name: str
    box: PixelBox
    score: float
    mask: np.ndarray | None = None


def detections(found: Any) -> list[Detection]:
    """Read what a pipeline of transformers returns; a mask without a pixel is left out."""
    kept = []
    for one in found:
        mask = None if one.get("mask") is None else np.asarray(one["mask"]) > 127
        box = _box_of(one, mask)
        if box is not None:
            kept.append(Detection(str(one["label"]), box, float(one["score"] or 0.0), mask))
    return kept


def _box_of(one: Any, mask: np.ndarray | None) -> PixelBox | None:
    if "box" in one:
        box = one["box"]
        return float(box["xmin"]), float(box["ymin"]), float(box["xmax"]), float(box["ymax"])
    if mask is None or not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class ObjectDetector:
    """A detector that was loaded.

    run: the model itself.
    labels: the classes that it knows; None if it finds what any words name.
    """

    def __init__(self, name: str, run: Run, labels: frozenset[str] | None = None) -> None:
        self.name, self.labels, self.run = name, labels, run

    def detect(self, picture: Picture, names: Sequence[str] = ()) -> list[Detection]:
        """Return all detections, whatever their score. names: what is looked for, of a detector without labels."""
        from PIL import Image

        return detections(self.run(Image.fromarray(picture), list(names)))

    def knows(self, thing: str) -> bool:
        return self.labels is None or thing in {singular(label.lower()) for label in self.labels}

    def find(self, picture: Picture, things: Sequence[str]) -> list[Found]:
        """Return the things of these names, as a witness asks for them."""
        return found_things(self.detect(picture, things), picture, things)


def found_things(found: Sequence[Detection], picture: Picture, things: Sequence[str]) -> list[Found]:
    """Return what was detected of these names, in the singular, with boxes in fractions of the picture (uint8 H x W x 3)."""
    height, width = picture.shape[:2]
    kept = []
    for one in found:
        name = singular(one.name.lower().strip(" ."))
        if name in things:
            left, top, right, bottom = np.clip(np.array(one.box) / (width, height, width, height), 0, 1).tolist()
            kept.append(Found(name, one.score, (left, top, right, bottom)))
    return kept


BROUGHT = {"florence2": ("Florence2ForConditionalGeneration", "4.56"), "sam3": ("Sam3Model", "5.0")}
"""Kind -> its class, and the version of transformers that brought it."""


def load_detector(folder: Path, device: str = "cpu") -> ObjectDetector:
    """Load a detector from a folder on this disk.

    Raises BadInput for a folder that is missing, is damaged or holds no detector, and for an OWLv2 without scipy.
    """
    from safetensors import SafetensorError

    try:
        kind = _kind_of(folder)
        _require(kind, folder)
        run, labels, name = _loaded(kind, folder, device)
    except BadInput:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ImportError,
        RuntimeError,
        AttributeError,
        SafetensorError,
    ) as error:
        raise BadInput(
            f"the detector cannot be loaded from {folder}: {error}; give the folder of a transformers model"
        ) from error
    return ObjectDetector(f"{name} in {folder.name}", run, labels)


def _kind_of(folder: Path) -> str:
    """What config.json calls the model. SAM 3 is published as a model of videos, which has the one of pictures in it."""
    kind = str(json.loads((folder / "config.json").read_text("utf-8")).get("model_type", ""))
    return "sam3" if kind == "sam3_video" else kind


def _require(kind: str, folder: Path) -> None:
    """Raises BadInput if a package is missing or too old for this kind of detector."""
    import transformers

    if kind == "owlv2" and find_spec("scipy") is None:
        raise BadInput(
            f"the detector in {folder} is an OWLv2, for which transformers needs scipy, and scipy is not installed; "
            "pip install scipy, or install clvr with its extra: clvr[objects]"
        )
    name, version = BROUGHT.get(kind, ("", ""))
    if name and getattr(transformers, name, None) is None:
        raise BadInput(
            f"the detector in {folder} is of the kind {kind}, which transformers {transformers.__version__} does not have; "
            f"install transformers {version} or newer"
        )


def _loaded(kind: str, folder: Path, device: str) -> tuple[Run, frozenset[str] | None, str]:
    """Return the model, its classes (None if it finds any words) and the name of its class."""
    from transformers import AutoConfig

    if kind == "sam3":
        from .sam3 import Sam3

        return Sam3(folder, device), None, BROUGHT[kind][0]
    if kind == "florence2":
        from .florence2 import Florence2

        return Florence2(folder, device), None, BROUGHT[kind][0]
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    name = "+".join(config.architectures or [])
    if kind in ("owlvit", "owlv2", "grounding-dino", "mm-grounding-dino", "omdet-turbo"):
        return _by_words(folder, device), None, name
    return _by_class(folder, device, name), frozenset(map(str, (config.id2label or {}).values())), name


def _by_class(folder: Path, device: str, kind: str) -> Run:
    from transformers import pipeline

    task = "image-segmentation" if "Segmentation" in kind else "object-detection"
    options: dict[str, Any] = {"subtask": "instance"} if task == "image-segmentation" else {}
    made: Any = pipeline(task, model=str(folder), device=device)
    # The pipelines' own threshold would cut what the rules are to cut.
    return lambda image, names: made(image, threshold=0.0, **options)


def _by_words(folder: Path, device: str) -> Run:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    model: Any = AutoModelForZeroShotObjectDetection.from_pretrained(folder, local_files_only=True).to(device).eval()
    processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
    # The OWL models tell the names of one pass apart. The others answer with pieces of the prompt: one pass a name.
    together = model.config.model_type in ("owlvit", "owlv2")

    def asked(image: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        text: Any = [[f"a photo of a {name}" for name in names]] if together else f"a {names[0]}."
        options: dict[str, Any] = {"text_labels": [list(names)]} if together else {}
        return _read(model, processor, image, text, names, options)

    def run(image: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        groups = [names] if together and names else [[name] for name in names]
        return [one for group in groups for one in asked(image, group)]

    return run


def _read(
    model: Any, processor: Any, image: Any, text: Any, names: Sequence[str], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Look for the names in one pass."""
    import torch

    inputs = processor(images=image, text=text, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        outputs = model(**inputs)
    sizes = [(image.height, image.width)]
    result = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=sizes, **options)[0]
    labels = result.get("text_labels") if len(names) > 1 else None
    found = zip(labels or [names[0]] * len(result["scores"]), result["scores"].tolist(), result["boxes"].tolist())
    return [
        {"label": label, "score": score, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box))}
        for label, score, box in found
    ]
