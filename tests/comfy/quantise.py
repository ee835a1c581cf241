"""Run by ComfyUI's Python: writes a matrix in each format of its quantiser, and beside it what that reads back."""

import dataclasses
import json
import sys

import torch
from comfy_kitchen.tensor import TensorCoreMXFP8Layout, TensorCoreNVFP4Layout, TensorWiseINT8Layout
from safetensors.torch import save_file

ROTATED = {"convrot": True, "convrot_groupsize": 256}
FORMATS = {
    "mxfp8": (TensorCoreMXFP8Layout, {"format": "mxfp8"}, {}),
    "nvfp4": (TensorCoreNVFP4Layout, {"format": "nvfp4"}, {}),
    "int8": (TensorWiseINT8Layout, {"format": "int8_tensorwise"}, {}),
    "rows": (TensorWiseINT8Layout, {"format": "int8_tensorwise"}, {"per_channel": True}),
    "rotated": (TensorWiseINT8Layout, {"format": "int8_tensorwise", **ROTATED}, {"per_channel": True, **ROTATED}),
}

torch.manual_seed(0)
weight = torch.randn(160, 512) * 0.02
found = {}
for name, (layout, mark, how) in FORMATS.items():
    codes, settings = layout.quantize(weight.bfloat16() if name == "mxfp8" else weight, **how)
    settings = dataclasses.replace(settings, orig_dtype=torch.float32)
    found |= {f"{name}.weight{end}": each for end, each in layout.state_dict_tensors(codes, settings).items()}
    found[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps(mark).encode()), dtype=torch.uint8)
    found[f"{name}.right"] = layout.dequantize(codes, settings).float()
save_file({name: value.contiguous() for name, value in found.items()}, sys.argv[1])
