"""Run by ComfyUI's Python with ComfyUI-GGUF's folder and a folder for files: loads tiny GGUF files by that pack's own loader, and prints
the fingerprints of the MODELs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT, PACK, FOLDER = Path(__file__).parents[2], Path(sys.argv[1]), Path(sys.argv[2])

from comfy.cli_args import args  # noqa: E402

args.cpu = True

import folder_paths  # noqa: E402
import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

for name, place in (("clvrs", ROOT), ("clvrs.nodes", ROOT / "nodes"), ("ggufs", PACK)):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = [str(place)]
fingerprint = importlib.import_module("clvrs.nodes.executor.fingerprint")
fingerprint.provenance = lambda *_: ""
fingerprint.get_executing_context = lambda: SimpleNamespace(node_id="1")
folder_paths.folder_names_and_paths["diffusion_models"] = ([str(FOLDER)], {".safetensors"})
loader = importlib.import_module("ggufs.nodes").UnetLoaderGGUF()
spec = importlib.util.spec_from_file_location("shapes", ROOT / "tests" / "merge" / "klein.py")
klein = importlib.util.module_from_spec(spec)
spec.loader.exec_module(klein)


def write(name: str, seed: int) -> str:
    """FLUX.2 Klein's layout, tiny; the matrices of the blocks in Q8_0."""
    writer = gguf.GGUFWriter(FOLDER / name, "flux")
    for key, weight in klein.weights(seed, torch.float32, hidden=256, text=384, channels=128, head=128).items():
        values = weight.numpy()
        if values.ndim == 2 and "_blocks." in key:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(key, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(key, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return name


def of(model) -> str:
    return fingerprint.fingerprint(None, {"model": model})


def patched(model, strength: float):
    model = model.clone()
    key = "diffusion_model.single_blocks.0.linear2.weight"
    model.add_patches({key: ("diff", (torch.ones(256, 1024),))}, strength)
    return model


first, second = write("first.gguf", 1), write("second.gguf", 2)
(model,) = loader.load_unet(first)
found = {
    "class": type(model).__name__,
    "model": type(model.model).__name__,
    "first": of(model),
    "again": of(loader.load_unet(first)[0]),
}
found |= {"second": of(loader.load_unet(second)[0]), "lora": of(patched(model, 0.5)), "more": of(patched(model, 0.9))}
at_work = patched(model, 0.5)
before = of(at_work)
at_work.patch_model(torch.device("cpu"))
found |= {"before": before, "at work": of(at_work)}
print(json.dumps(found))
