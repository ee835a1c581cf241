"""The node of a vision-language model that ComfyUI loads. What asks it is imported where the node works."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from ...clvr_core.errors import BadInput, JudgeFailure
from ..host.sockets import VLM


class VisionModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_VisionModel",
            display_name="Vision Model",
            category="CLVR/models",
            description="A vision-language model that ComfyUI itself loads, such as Qwen3-VL in Load CLIP with type "
            "stable_diffusion. It plans and judges. Before it judges, the node tests that it sees pictures.",
            search_aliases=["VLM", "Qwen3-VL", "Gemma", "judge", "controller", "llm", "clip to vlm"],
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="From Load CLIP, with a file of a vision-language model and type stable_diffusion."
                ),
                io.Int.Input(
                    "reply_limit",
                    default=1536,
                    min=64,
                    max=16384,
                    advanced=True,
                    tooltip="Tokens that a reply may have; one that is cut is asked for again.",
                ),
                io.Boolean.Input(
                    "prove_sight",
                    default=True,
                    advanced=True,
                    tooltip="Shows it a red and a blue patch first, and refuses one that cannot tell them apart.",
                ),
            ],
            outputs=[VLM.Output("vlm", tooltip="Plans the picture and judges it.")],
            hidden=[io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, clip: Any, reply_limit: int = 1536, prove_sight: bool = True) -> io.NodeOutput:
        from ...clvr_core.vlm.sight import check_sight
        from .comfy_clip import Blind, ClipVlm
        from .loaders import loader_of

        loader = loader_of(cls.hidden.dynprompt, get_executing_context().node_id, "clip")
        try:
            vlm = ClipVlm(clip, loader.name, reply_limit)
            if prove_sight:
                check_sight(vlm)
        except Blind as error:
            raise BadInput(loader.refusal(str(error))) from error
        except JudgeFailure as error:
            raise BadInput(f"{error}; choose another model in {loader.title}") from error
        return io.NodeOutput(vlm)
