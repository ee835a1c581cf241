"""Sampling presets of model families, which the node calls recipes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.samplers
import torch
from comfy_extras.nodes_cfg import CFGNorm
from comfy_extras.nodes_flux import Flux2Scheduler
from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "lcm", "deis", "er_sde")
"""ComfyUI's samplers that evaluate the model once a step, so that the cost of a picture is known before it is drawn."""
SCHEDULERS = ("recipe", "simple", "normal", "sgm_uniform", "karras", "exponential", "beta", "ddim_uniform")
QWEN_SHIFT = 3.1
"""Shift of the noise schedule in the workflow that the authors of Qwen-Image-Edit published."""


@dataclass(frozen=True)
class SamplingPreset:
    """How a family of models is sampled.

    kind: name of the preset.
    steps: of the sampler.
    guidance: CFG scale; 1 is without a negative prompt, at half the cost.
    scheduler: one of SCHEDULERS, or flux2, FLUX.2's own, which depends on the picture's size.
    sampler: one of SAMPLERS.
    strength: 1: an edit starts from noise and reads the canvases as references; below 1 it starts from the canvas,
        noised to this share.
    window: tokens of a prompt that the weights were trained to read, None for any number.
    """

    kind: str
    steps: int
    guidance: float = 1.0
    scheduler: str = "simple"
    sampler: str = "euler"
    strength: float = 1.0
    window: int | None = None

    @property
    def nfe(self) -> int:
        """Transformer evaluations of one picture."""
        return self.steps * (1 if self.guidance == 1 else 2)

    def sigmas(self, model, width: int, height: int, strength: float) -> torch.Tensor:
        """Return steps + 1 noise levels: the last ones of a schedule that is longer by 1 / strength."""
        whole = int(self.steps / strength)
        if self.scheduler == "flux2":
            levels = Flux2Scheduler.execute(whole, width, height).args[0]
        else:
            levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), self.scheduler, whole)
        return levels[-(self.steps + 1) :]

    def prepared(self, model):
        """Return the MODEL, for Qwen-Image-Edit with the patches of its authors' workflow."""
        if self.kind != "qwen-edit":
            return model
        (shifted,) = ModelSamplingAuraFlow().patch_aura(model, QWEN_SHIFT)
        return CFGNorm.execute(shifted, 1.0).args[0] if self.guidance != 1 else shifted

    def changed(self, steps: int, guidance: float, sampler: str, scheduler: str, strength: float) -> SamplingPreset:
        """Return the preset with the artist's own settings; 0 and "recipe" keep its own."""
        own = {"steps": steps, "guidance": guidance, "strength": strength}
        named = {} if scheduler == "recipe" else {"scheduler": scheduler}
        return replace(self, sampler=sampler, **{name: value for name, value in own.items() if value}, **named)


RECIPES = {
    "klein": SamplingPreset("klein", 4, scheduler="flux2", window=512),
    "klein-base": SamplingPreset("klein-base", 28, 4.0, scheduler="flux2", window=512),
    "qwen-edit": SamplingPreset("qwen-edit", 20, 4.0, window=1024),
    "generic": SamplingPreset("generic", 20, 7.0, scheduler="normal", strength=0.75),
}
