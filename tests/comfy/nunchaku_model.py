"""Run by ComfyUI's Python with ComfyUI-nunchaku's folder and a folder for files: loads a tiny Qwen-Image by that pack's own
loader, and prints the fingerprints of the MODELs.

The classes are the pack's and those of nunchaku's Python part; its compiled part, which needs a GPU, is absent. So the model is
loaded and never run. CLVR_NUNCHAKU_LIBRARY, nunchaku's sources, must be on PYTHONPATH.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

ROOT, PACK, FOLDER = Path(__file__).parents[2], Path(sys.argv[1]), Path(sys.argv[2])

from comfy.cli_args import args  # noqa: E402

args.cpu = True

import folder_paths  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

for name in ("nunchaku._C", "nunchaku._C.ops", "nunchaku._C.utils"):
    sys.modules[name] = MagicMock(name=name)
for name, place in (("clvrs", ROOT), ("clvrs.nodes", ROOT / "nodes"), ("packs", PACK)):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(place)]
for name in ("packs.nodes", "packs.nodes.models"):  # their __init__ import the loaders of all other models
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(PACK.joinpath(*name.split(".")[1:]))]
fingerprint = importlib.import_module("clvrs.nodes.executor.fingerprint")
fingerprint.provenance = lambda *_: ""
fingerprint.get_executing_context = lambda: SimpleNamespace(node_id="1")
folder_paths.folder_names_and_paths["diffusion_models"] = ([str(FOLDER)], {".safetensors"})

loader = importlib.import_module("packs.nodes.models.qwenimage")
loader.check_hardware_compatibility = lambda *_: None  # asks for the generation of the GPU
NARROW = {
    "num_layers": 2,
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "joint_attention_dim": 128,
    "axes_dims_rope": (16, 56, 56),
}
published = loader.NunchakuQwenImage
loader.NunchakuQwenImage = lambda config: published(config | NARROW)
QUANTISED = {"method": "svdquant", "weight": {"dtype": "int4", "group_size": 64}, "rank": 32}


def write(name: str, seed: int, changed: str = "") -> str:
    """changed: end of the name of the tensors that are drawn anew; the others are those of seed 1."""
    config = published({"image_model": "qwen_image", "scale_shift": 0, "rank": 32, "precision": "int4"} | NARROW)
    config.set_inference_dtype(torch.bfloat16, None)
    shapes = config.get_model({}).diffusion_model.state_dict()
    first, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed)
    tensors = {key: random(value, first) for key, value in shapes.items()}
    tensors |= {key: random(value, other) for key, value in shapes.items() if key.endswith(changed)}
    save_file(tensors, FOLDER / name, {"quantization_config": json.dumps(QUANTISED)})
    return name


def random(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if like.dtype.is_floating_point:
        return torch.randn(like.shape, generator=generator).to(like.dtype)
    return torch.randint(-100, 100, like.shape, generator=generator).to(like.dtype)


def load(name: str):
    (model,) = loader.NunchakuQwenImageDiTLoader().load_model(name, "disable")
    return model


def of(model) -> str:
    return fingerprint.fingerprint(None, {"model": model})


first = write("first.safetensors", 1)
model = load(first)
found = {
    "patcher": type(model).__name__,
    "model": type(model.model).__name__,
    "quantised": str(model.model_state_dict()["diffusion_model.transformer_blocks.0.attn.to_qkv.qweight"].dtype),
    "widgets": list(loader.NunchakuQwenImageDiTLoader.INPUT_TYPES()["required"]),
    "first": of(model),
    "again": of(load(first)),
    "second": of(load(write("second.safetensors", 2))),
    "packed": of(load(write("packed.safetensors", 2, ".qweight"))),
    "scales": of(load(write("scales.safetensors", 2, ".wscales"))),
    "cloned": of(model.clone()),
}
model.load(torch.device("cpu"))
found["at work"] = of(model)
model.detach()
found["put away"] = of(model)
print(json.dumps(found))
