from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
from comfy_api.latest import io

from ...clvr_core.protocols import Vlm
from ...clvr_core.witness.text import READERS, TextWitness, installed, load_reader
from ..host.progress import show_text
from ..host.sockets import VLM

if TYPE_CHECKING:
    from ...clvr_core.witness import Witness

NO_READER = "off: no text reader is installed; pip install rapidocr onnxruntime, in ComfyUI's Python, brings one"


class WitnessesNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Witnesses",
            display_name="Witnesses",
            category="CLVR/models",
            description="Lets other programs look at each picture beside the model that judges it: a text reader letter by "
            "letter, a detector that counts. Where they disagree with the model, the goal is unsure and is looked at "
            "again, with both stories. A witness alone never fails a goal.",
            search_aliases=[
                "second opinion",
                "OCR",
                "read text",
                "spelling",
                "count objects",
                "object detection",
                "SAM 3",
                "RT-DETR",
                "double check",
            ],
            inputs=[
                VLM.Input("vlm", tooltip="The model that judges; the witnesses stand beside it."),
                io.Combo.Input(
                    "text",
                    options=["auto", "off", *READERS],
                    default="auto",
                    tooltip="Reads lettering for goals that quote what is to be written, letter by letter. auto: the first reader "
                    "that is installed, none if there is none.",
                ),
                io.Model.Input(
                    "detector",
                    optional=True,
                    tooltip="Finds and counts things: RT-DETR (80 kinds) or SAM 3 (any words), from Load Diffusion Model or Load "
                    "Checkpoint. Left open, nothing is counted.",
                ),
                io.Clip.Input(
                    "detector_clip", optional=True, tooltip="The text encoder of SAM 3, from the same Load Checkpoint."
                ),
                io.Float.Input(
                    "seen",
                    default=0.5,
                    min=0.05,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Score of the detector from which up a thing counts; below half of it there is none, and between "
                    "the two the detector says nothing. Higher: it finds less.",
                ),
                io.Float.Input(
                    "seconds",
                    default=60.0,
                    min=1.0,
                    max=3600.0,
                    step=1.0,
                    optional=True,
                    advanced=True,
                    tooltip="How long a witness may look at one picture; one that takes longer is not asked again in the run.",
                ),
                io.Boolean.Input(
                    "count",
                    default=False,
                    optional=True,
                    tooltip="Also asks the vlm how many there are, as a number, for goals that say one: a reply more a picture. "
                    "Where its number and the detector agree against its yes or no, they decide.",
                ),
                io.Boolean.Input(
                    "changes",
                    default=True,
                    optional=True,
                    tooltip="What an edit did to the rest of the picture, measured on the pixels, stands beside what the vlm says "
                    "of it: an edit that kept the rest is not rolled back on the vlm's word alone.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Measures how near a picture is to the references of the brief: SigLIP 2, DINOv2, DINOv3, from Load CLIP "
                    "Vision. Left open, likeness is not measured.",
                ),
                io.Float.Input(
                    "alike",
                    default=0.6,
                    min=0.05,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Similarity from which up it counts as the same; less than a tenth below it nothing is said. It differs "
                    "from model to model: measure it on pictures of yours.",
                ),
            ],
            outputs=[
                VLM.Output(
                    "witnessed", display_name="vlm", tooltip="The model with its witnesses, for any node that judges."
                ),
                io.String.Output("report", tooltip="Which witnesses are on, a line each, and why one is not."),
            ],
            hidden=[io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls,
        vlm: Vlm,
        text: str = "auto",
        detector: Any = None,
        detector_clip: Any = None,
        seen: float = 0.5,
        seconds: float = 60.0,
        count: bool = False,
        changes: bool = True,
        clip_vision: Any = None,
        alike: float = 0.6,
    ) -> io.NodeOutput:
        from ...clvr_core.models.witnesses import reliability_file
        from ...clvr_core.witness import Witnesses
        from ...clvr_core.witness.judge import with_witnesses
        from ...clvr_core.witness.likeness import LikenessWitness
        from ...clvr_core.witness.objects import ObjectWitness
        from ...clvr_core.witness.reliability import read_reliability
        from ...clvr_core.witness.things import Limits
        from ..executor.fingerprint import fingerprint
        from .core_detectors import CoreDetector
        from .core_embedder import CoreEmbedder

        chosen: list[Witness] = []
        lines = []
        if text == "off" or (text == "auto" and not installed()):
            lines.append(f"text: {'off' if text == 'off' else NO_READER}")
        else:
            reader = load_reader("" if text == "auto" else text)
            chosen.append(TextWitness(reader))
            lines.append(f"text: read by {reader.name}")
        if detector is None:
            lines.append("objects: off; link a detector to count things")
        else:
            digest = fingerprint(cls.hidden.dynprompt, {"detector": detector})
            finder = CoreDetector(detector, detector_clip, digest)
            chosen.append(ObjectWitness(finder, Limits.at(seen)))
            lines.append(f"objects: found by {finder.name}, from a score of {seen:g} on")
        if clip_vision is None:
            lines.append("likeness: off; link a clip_vision to measure it")
        else:
            digest = fingerprint(cls.hidden.dynprompt, {"clip_vision": clip_vision.patcher})
            embedder = CoreEmbedder(clip_vision, digest)
            chosen.append(LikenessWitness(embedder, alike))
            lines.append(f"likeness: measured by {embedder.name}, alike from {alike:g} on")
        lines.append(f"count: {'asked of the vlm as a number' if count else 'off'}")
        lines.append(f"changes: {'measured on the pixels of each edit' if changes else 'off'}")
        report = "\n".join(lines)
        show_text(report)
        cancel = comfy.model_management.throw_exception_if_processing_interrupted
        # Without any it is the model alone, also where witnesses came with it.
        measured = read_reliability(reliability_file())
        witnesses = Witnesses(chosen, seconds, cancel, counts=count, changes=changes, reliability=measured)
        judge = with_witnesses(vlm, witnesses)
        return io.NodeOutput(judge, report)
