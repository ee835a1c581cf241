"""A pack beside ours in the ComfyUI of the tests: tiny random models of the real classes, and a vision model that follows a script.

Loaded, it puts small files of FLUX.2 Klein's layout under the names that the shared workflows ask for into ComfyUI's model folders.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.ldm.flux.model
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.taesd.taehv
import comfy.taesd.taesd
import comfy.text_encoders.flux
import comfy.text_encoders.llama
import comfy.text_encoders.qwen_image
import comfy.text_encoders.qwen_vl
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file

import nodes as comfy_nodes

from .card import Card, Prompter

HIDDEN, TEXT, PER_LAYER = 128, 384, 128
LAYERS = 28
"""Of the text encoder: the last whose states FLUX.2 Klein reads is 27."""
NINE = 192
"""Width of the text that the one like FLUX.2 Klein 9B reads: three layers of tests/comfy/tiny_vision.py's."""
VAE = "flux2-vae"
MODELS = {"flux-2-klein-base-4b": 0.0, "flux-2-klein-4b": 0.1, "flux-2-klein-4b-fp8": 0.1}
"""File -> how far it is from the base."""
LORA = "tiny"


def scattered(shapes: dict[str, torch.Tensor], seed: int, scale: float = 0.7) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.ones_like(tensor)
        if "norm" in name and tensor.ndim == 1 and "bias" not in name
        else torch.randn(tensor.shape, generator=random)
        * scale
        / max(1, tensor[0].numel() if tensor.ndim else 1) ** 0.5
        for name, tensor in shapes.items()
    }


def flux(far: float, text: int = TEXT) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = comfy.ldm.flux.model.Flux(
            dtype=torch.float32,
            device="meta",
            operations=comfy.ops.disable_weight_init,
            in_channels=128,
            out_channels=128,
            vec_in_dim=None,
            context_in_dim=text,
            hidden_size=HIDDEN,
            mlp_ratio=3.0,
            num_heads=HIDDEN // 128,
            depth=1,
            depth_single_blocks=2,
            axes_dim=[32] * 4,
            theta=2000,
            patch_size=1,
            qkv_bias=False,
            guidance_embed=False,
            txt_ids_dims=[3],
            global_modulation=True,
            mlp_silu_act=True,
            ops_bias=False,
            default_ref_method="index",
            ref_index_scale=10.0,
        )
    shapes = {name: torch.empty(tensor.shape) for name, tensor in model.state_dict().items()}
    base, other = scattered(shapes, 1), scattered(shapes, 2)
    return {name: (tensor + far * other[name]).to(torch.bfloat16) for name, tensor in base.items()}


def lora() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(9)
    name = "diffusion_model.single_blocks.0.linear2"
    return {
        f"{name}.lora_A.weight": torch.randn(4, 4 * HIDDEN, generator=random) * 0.1,
        f"{name}.lora_B.weight": torch.randn(HIDDEN, 4, generator=random) * 0.1,
    }


def write() -> None:
    def put(folder: str, name: str, make) -> None:
        path = Path(folder_paths.models_dir) / folder / f"{name}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(make(), path)

    for name, far in MODELS.items():
        put("diffusion_models", name, lambda far=far: flux(far))
    put("loras", LORA, lora)
    tae = comfy.taesd.taesd
    put("vae_approx", "taef2_encoder", lambda: scattered(tae.EncoderFlux2(128).state_dict(), 3, 1.0))
    put("vae_approx", "taef2_decoder", lambda: scattered(tae.DecoderFlux2(128).state_dict(), 4, 1.0))
    # Under the names by which CLVR Quick finds them.
    put("diffusion_models", "flux-2-klein-9b", lambda: flux(0.1, NINE))
    put("vae", VAE, lambda: {"nothing": torch.zeros(1)})
    load = comfy_nodes.VAELoader.load_vae
    # A VAE of the real class has 84 million weights, and its small one is in two files.
    comfy_nodes.VAELoader.load_vae = lambda self, vae_name: load(
        self, "taef2" if vae_name.startswith(VAE) else vae_name
    )


def scattered_clip(target: SimpleNamespace) -> comfy.sd.CLIP:
    cpu = torch.device("cpu")
    clip = comfy.sd.CLIP(target, parameters=0, model_options={"load_device": cpu, "offload_device": cpu})
    module = clip.cond_stage_model
    module.load_state_dict(scattered(module.state_dict(), 5), strict=False)
    return clip


def text_encoder(kind: str) -> comfy.sd.CLIP:
    """A CLIP as Load CLIP makes it from Qwen3 4B with type flux2 (`klein`), or from Qwen3-VL 4B with another type (`qwen3vl`)."""
    llama, small = (
        comfy.text_encoders.llama,
        {"hidden_size": PER_LAYER, "intermediate_size": 256, "num_attention_heads": 2},
    )
    if kind == "klein":
        config = dataclasses.replace(llama.Qwen3_4BConfig(), num_hidden_layers=LAYERS, num_key_value_heads=1, **small)
        held, llama.Qwen3_4BConfig = llama.Qwen3_4BConfig, lambda **given: dataclasses.replace(config, **given)
        flux = comfy.text_encoders.flux
        target = SimpleNamespace(
            params={}, clip=flux.klein_te(dtype_llama=torch.float32), tokenizer=flux.KleinTokenizer
        )
    else:
        raise ValueError(kind)
    try:
        return scattered_clip(target)
    finally:
        llama.Qwen3_4BConfig = held


class TextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Tiny_TextEncoder",
            category="tiny",
            inputs=[io.Combo.Input("kind", options=["klein"])],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        return io.NodeOutput(text_encoder(kind))


def qwen_text_encoder() -> comfy.sd.CLIP:
    """A CLIP as Load CLIP makes it from Qwen2.5-VL 7B with type qwen_image."""
    llama, qwen, seeing = comfy.text_encoders.llama, comfy.text_encoders.qwen_image, comfy.text_encoders.qwen_vl
    small = {
        "hidden_size": PER_LAYER,
        "intermediate_size": 256,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "num_hidden_layers": 2,
    }
    held, eyes = llama.Qwen25_7BVLI_Config, seeing.Qwen2VLVisionTransformer
    llama.Qwen25_7BVLI_Config = lambda **given: held(**given | small)
    seeing.Qwen2VLVisionTransformer = lambda **given: eyes(
        **given | {"hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "num_layers": 2}
    )
    try:
        return scattered_clip(
            SimpleNamespace(params={}, clip=qwen.te(dtype_llama=torch.float32), tokenizer=qwen.QwenImageTokenizer)
        )
    finally:
        llama.Qwen25_7BVLI_Config, seeing.Qwen2VLVisionTransformer = held, eyes


class QwenEdit(io.ComfyNode):
    """Qwen-Image-Edit's classes with few and narrow layers; the VAE is the tiny one for its latents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        outputs = [io.Model.Output("m"), io.Clip.Output("c"), io.Vae.Output("v")]
        return io.Schema(node_id="Tiny_QwenEdit", category="tiny", inputs=[], outputs=outputs)

    @classmethod
    def execute(cls) -> io.NodeOutput:
        cpu = torch.device("cpu")
        shape = {
            "image_model": "qwen_image",
            "num_layers": 2,
            "num_attention_heads": 2,
            "joint_attention_dim": PER_LAYER,
        }
        config = comfy.supported_models.QwenImage(shape)
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, device=cpu)
        model.diffusion_model.load_state_dict(scattered(model.diffusion_model.state_dict(), 6))
        vae = comfy.sd.VAE(sd=scattered(comfy.taesd.taehv.TAEHV(16).state_dict(), 7, 1.0))
        # Core's node scales every reference to 1 MP, which takes a CPU long.
        encode = vae.encode
        vae.encode = lambda pixels: encode(pixels[:, ::16, ::16])
        return io.NodeOutput(comfy.model_patcher.ModelPatcher(model, cpu, cpu), qwen_text_encoder(), vae)


class Counted(io.ComfyNode):
    """The same models, which tell the server's log of their work: evaluations with the size of the batch and the noise level, texts,
    pictures in and out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Tiny_Counted",
            category="tiny",
            inputs=[io.Model.Input("model"), io.Clip.Input("clip"), io.Vae.Input("vae")],
            outputs=[io.Model.Output("m"), io.Clip.Output("c"), io.Vae.Output("v")],
        )

    @classmethod
    def execute(cls, model, clip, vae) -> io.NodeOutput:
        model, clip, vae = model.clone(), clip.clone(), copy.copy(vae)
        vae.upscale_ratio = vae.downscale_ratio = 16  # ComfyUI 0.33 has 8 for taef2, by which its tiles do not fit

        def evaluated(apply, given):
            print(f"tiny: evaluated {given['input'].shape[0]} at {given['timestep'].max():.2f}", flush=True)
            return apply(given["input"], given["timestep"], **given["c"])

        def told(word: str, work):
            def telling(*args, **kwargs):
                print(f"tiny: {word}", flush=True)
                return work(*args, **kwargs)

            return telling

        model.set_model_unet_function_wrapper(evaluated)
        clip.encode_from_tokens_scheduled = told("text", clip.encode_from_tokens_scheduled)
        vae.encode, vae.decode = told("encoded", vae.encode), told("decoded", vae.decode)
        return io.NodeOutput(model, clip, vae)


class OneByOne(io.ComfyNode):
    """The same executor, which draws the pictures of a round by themselves."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        executor = io.Custom("CLVR_EXECUTOR")
        outputs = [executor.Output()]
        return io.Schema(node_id="Tiny_OneByOne", category="tiny", inputs=[executor.Input("executor")], outputs=outputs)

    @classmethod
    def execute(cls, executor) -> io.NodeOutput:
        alone = copy.copy(executor.executor)
        alone.draw = lambda requests: [executor.executor.draw([request])[0] for request in requests]
        weights = f"{executor.weights} alone"
        return io.NodeOutput(dataclasses.replace(executor, executor=alone, weights=weights))


def protocols() -> Any:
    name = next(name for name in sys.modules if name.endswith("clvr.nodes.host.sockets")).removesuffix(
        ".nodes.host.sockets"
    )
    return sys.modules[f"{name}.clvr_core.protocols"]


class Script:
    """goals: their texts. actions: what is done once so many canvases have been drawn, the last for ever. met: for each picture in the
    order in which they are first seen, a 1 or 0 for each goal; the last for ever."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.name, self.script, self.seen = "script", script, []

    def chat(self, messages, schema):
        if messages[-1].data["task"] == "goals":
            value = {"goals": [{"text": text, "check": f"{text}?"} for text in self.script["goals"]]}
        else:
            actions, data = self.script["actions"], messages[-1].data
            value = actions[min(len(data["canvases"]) + len(data["failed"]), len(actions) - 1)]
        return protocols().Reply(json.dumps(value), tokens=1)

    def decide(self, images, questions):
        task = questions[0].data["task"]
        if task != "goal":
            return [protocols().Decision(0.1 if task == "plan-check" else 0.9) for _ in questions]
        picture = images[0].tobytes()
        if picture not in self.seen:
            self.seen.append(picture)
        row = self.script["met"][min(self.seen.index(picture), len(self.script["met"]) - 1)]
        return [
            protocols().Decision(0.95 if row[int(question.data["goal"]["id"][1:]) - 1] == "1" else 0.05)
            for question in questions
        ]


class Eyes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Tiny_Eyes",
            category="tiny",
            inputs=[io.String.Input("script", default="{}")],
            outputs=[io.Custom("CLVR_VLM").Output()],
        )

    @classmethod
    def execute(cls, script: str) -> io.NodeOutput:
        return io.NodeOutput(Script(json.loads(script)))


class Tiny(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        write()
        return [TextEncoder, QwenEdit, Counted, OneByOne, Eyes, Card, Prompter]


async def comfy_entrypoint() -> Tiny:
    return Tiny()
