"""Sampling presets of model families, which the node calls recipes. Their settings are those of ComfyUI's own templates
(tests/comfy/test_templates.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import comfy.samplers
import torch
from comfy_extras.nodes_cfg import CFGNorm
from comfy_extras.nodes_flux import Flux2Scheduler
from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

import nodes as comfy_nodes

from ...clvr_core.errors import BadInput

SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "lcm", "deis", "er_sde")
"""ComfyUI's samplers that evaluate the model once a step, so that the cost of a picture is known before it is drawn."""
SCHEDULERS = ("recipe", "simple", "normal", "sgm_uniform", "karras", "exponential", "beta", "ddim_uniform")
QWEN_TURBO_LEVELS = (1.0, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568, 0.0)
"""Noise levels that Qwen-Image-2.1-Turbo was distilled for, from ComfyUI's template."""

Reader = Literal["latents", "text encoder", "nothing"]


@dataclass(frozen=True)
class SamplingPreset:
    """How a family of models is sampled.

    kind: name of the preset; it determines the fields from shift on.
    steps: of the sampler.
    guidance: CFG scale; 1 is without a negative prompt, at half the cost.
    scheduler: one of SCHEDULERS, or flux2, FLUX.2's own, which depends on the picture's size.
    sampler: one of SAMPLERS.
    strength: 1: an edit starts from noise and reads the canvases as references; below 1 it starts from the canvas,
        noised to this share.
    window: tokens of a prompt that the weights were trained to read, None for any number.
    shift: of the noise schedule, None for the model's own.
    norm: whether the guided prediction is scaled to the length of the conditional one (CFGNorm).
    patch: ComfyUI's node that patches the model, empty for none.
    encoder: ComfyUI's node that encodes prompts with references, empty for CLIP Text Encode.
    reads: what reads the references: the model their latents, the text encoder and the model, or nothing.
    references: how many an action may name, None for any number. With `reads` nothing it is the canvas to edit.
    levels: noise levels in place of a scheduler's, used at their own number of steps.
    grid: pixels; sides are multiples of it.
    """

    kind: str
    steps: int
    guidance: float = 1.0
    scheduler: str = "simple"
    sampler: str = "euler"
    strength: float = 1.0
    window: int | None = None
    # Not in repr, which is in the key of a run: an older run of the same kind is to be found again.
    shift: float | None = field(default=None, repr=False)
    norm: bool = field(default=False, repr=False)
    patch: str = field(default="", repr=False)
    encoder: str = field(default="", repr=False)
    reads: Reader = field(default="latents", repr=False)
    references: int | None = field(default=None, repr=False)
    levels: tuple[float, ...] = field(default=(), repr=False)
    grid: int = field(default=16, repr=False)

    @property
    def nfe(self) -> int:
        """Transformer evaluations of one picture."""
        return self.steps * (1 if self.guidance == 1 else 2)

    def sigmas(self, model, width: int, height: int, strength: float) -> torch.Tensor:
        """Return steps + 1 noise levels: the last ones of a schedule that is longer by 1 / strength."""
        whole = int(self.steps / strength)
        if self.scheduler == "flux2":
            levels = Flux2Scheduler.execute(whole, width, height).args[0]
        elif self.scheduler == "simple" and whole == len(self.levels) - 1:
            levels = torch.tensor(self.levels)
        else:
            levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), self.scheduler, whole)
        return levels[-(self.steps + 1) :]

    def prepared(self, model):
        """Return the MODEL with the patches of its family's workflow. Raises BadInput if this ComfyUI lacks one."""
        if self.shift is not None:
            (model,) = ModelSamplingAuraFlow().patch_aura(model, self.shift)
        if self.norm and self.guidance != 1:
            model = CFGNorm.execute(model, 1.0).args[0]
        return self.node(self.patch).execute(model).args[0] if self.patch else model

    def node(self, name: str) -> Any:
        """Return ComfyUI's node of this name. Raises BadInput if this ComfyUI has none."""
        if found := comfy_nodes.NODE_CLASS_MAPPINGS.get(name):
            return found
        raise BadInput(
            f"recipe is {self.kind}, which needs ComfyUI's node {name}, and this ComfyUI has none; update it"
        )

    def changed(self, steps: int, guidance: float, sampler: str, scheduler: str, strength: float) -> SamplingPreset:
        """Return the preset with the artist's own settings; 0 and "recipe" keep its own."""
        own = {"steps": steps, "guidance": guidance, "strength": strength}
        named = {"sampler": sampler, "scheduler": scheduler}
        return replace(
            self,
            **{name: value for name, value in own.items() if value},
            **{name: value for name, value in named.items() if value != "recipe"},
        )


_KLEIN: dict[str, Any] = {"scheduler": "flux2", "window": 512}
_QWEN_21: dict[str, Any] = {"encoder": "TextEncodeQwenImage21", "reads": "text encoder", "references": 10, "grid": 32}
# Z-Image has seen no reference: an edit repaints the noised canvas.
_Z_IMAGE: dict[str, Any] = {"sampler": "res_multistep", "shift": 3.0, "window": 512}

RECIPES = {
    preset.kind: preset
    for preset in (
        SamplingPreset("klein", 4, **_KLEIN),
        SamplingPreset("klein-base", 20, 5.0, **_KLEIN),
        SamplingPreset(
            *("qwen-edit", 40, 4.0),
            **{"window": 1024, "shift": 3.1, "norm": True, "encoder": "TextEncodeQwenImageEditPlus"},
            **{"reads": "text encoder", "references": 3},
        ),
        SamplingPreset("generic", 20, 7.0, scheduler="normal", strength=0.75),
        SamplingPreset("klein-kv", 4, patch="FluxKVCache", **_KLEIN),
        SamplingPreset("flux3-klein", 16),
        SamplingPreset("flux3-klein-base", 50, 3.5),
        SamplingPreset("qwen-image-2.1", 25, **_QWEN_21),
        SamplingPreset("qwen-image-2.1-turbo", 8, levels=QWEN_TURBO_LEVELS, **_QWEN_21),
        SamplingPreset("z-image-turbo", 8, strength=0.75, reads="nothing", references=1, **_Z_IMAGE),
        SamplingPreset("z-image", 25, 4.0, strength=0.75, reads="nothing", references=1, **_Z_IMAGE),
        SamplingPreset(
            "z-image-omni", 25, 4.0, encoder="TextEncodeZImageOmni", reads="text encoder", references=3, **_Z_IMAGE
        ),
    )
}
