from __future__ import annotations

from comfy_api.latest import io

from ..host.sockets import EXECUTOR, ExecutorHandle
from .fingerprint import fingerprint
from .recipes import RECIPES, SAMPLERS, SCHEDULERS

STEP = 16
"""Pixels by which the size of the canvas is set."""


class ExecutorNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Executor",
            display_name="Executor",
            category="CLVR/models",
            description="Makes a diffusion model the executor of the loop: it draws and edits by the recipe of its "
            "family. Put LoRA loaders or other patches between the model's loader and this node as you would before a "
            "KSampler.",
            search_aliases=[
                "painter",
                "sampler",
                "klein",
                "flux 2",
                "qwen image edit",
                "image edit",
                "inpaint",
                "flux",
                "qwen",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model, with any LoRA or patch on it."),
                io.Clip.Input("clip", tooltip="Its text encoder; FLUX.2 Klein wants the type flux2 here."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Combo.Input(
                    "recipe",
                    options=list(RECIPES),
                    default="klein",
                    tooltip="The family of the model, sampled as in ComfyUI's own template. klein: FLUX.2 Klein, 4 steps. "
                    "klein-base: its undistilled base, 20 steps, guidance 5. klein-kv: the 9B KV model. qwen-edit: "
                    "Qwen-Image-Edit, 40 steps, guidance 4, at most three references. z-image and z-image-turbo read no "
                    "references: an edit repaints the noised canvas. generic: any other model, edited the same way. "
                    "flux3-klein and qwen-image-2.1 need a ComfyUI newer than 0.33.",
                ),
                io.Int.Input("width", default=1024, min=64, max=4096, step=STEP, tooltip="Pixels of the canvas."),
                io.Int.Input("height", default=1024, min=64, max=4096, step=STEP, tooltip="Pixels of the canvas."),
                io.Int.Input(
                    "steps", default=0, min=0, max=200, advanced=True, tooltip="Sampler steps; 0: the recipe's own."
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    advanced=True,
                    tooltip="CFG; 0: the recipe's own. At 1 a step costs half; higher: closer to the prompt, harsher.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=[*SAMPLERS, "recipe"],
                    default="recipe",
                    advanced=True,
                    tooltip="As in KSampler; recipe: the recipe's own.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULERS),
                    default="recipe",
                    advanced=True,
                    tooltip="As in KSampler; recipe: the recipe's own.",
                ),
                io.Float.Input(
                    "edit_strength",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Below 1 an edit starts from the canvas with this share of noise; higher: it changes "
                    "more. At 1 it starts from noise, with the canvas as a reference. 0: the recipe's own.",
                ),
                io.Boolean.Input(
                    "tiled_vae",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Encodes and decodes in tiles of 512 pixels: less memory, slower, and pictures differ a "
                    "little. Without it ComfyUI does so only where memory runs out.",
                ),
                io.Boolean.Input(
                    "keep_latents",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="A canvas goes back into an edit as the latent it was drawn with, so that the VAE does not "
                    "wear it. Off: it is encoded anew each time, as Apply References does.",
                ),
            ],
            outputs=[
                EXECUTOR.Output("executor", tooltip="Draws and edits, for Brief, Execute Step or Generate in a Loop.")
            ],
            hidden=[io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        recipe: str = "klein",
        width: int = 1024,
        height: int = 1024,
        steps: int = 0,
        guidance: float = 0.0,
        sampler: str = "recipe",
        scheduler: str = "recipe",
        edit_strength: float = 0.0,
        tiled_vae: bool = False,
        keep_latents: bool = True,
    ) -> io.NodeOutput:
        from .comfy_sampler import ComfyExecutor
        from .tiled_vae import TiledVae

        chosen = RECIPES[recipe].changed(steps, guidance, sampler, scheduler, edit_strength)
        executor = ComfyExecutor(model, clip, TiledVae(vae) if tiled_vae else vae, chosen, keep_latents)
        weights = fingerprint(cls.hidden.dynprompt, {"model": model, "clip": clip.patcher, "vae": vae.patcher})
        # Runs of before latents were kept are those that encode each canvas anew.
        settings = f"{chosen}{' tiled VAE' if tiled_vae else ''}{' latents' if keep_latents else ''}"
        size = (max(chosen.grid, side - side % chosen.grid) for side in (width, height))
        return io.NodeOutput(ExecutorHandle(executor, *size, lambda text: None, f"{weights} {settings}", chosen.grid))
