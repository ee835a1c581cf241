"""A folder of Qwen3-VL's class as a CLIP object of the real ComfyUI, and the pack's vision-language model made of it.

ComfyUI knows the sizes and the vocabulary of the published models alone. Here its numbers (sizes, ids of tokens, the side of a
patch and the least size of a picture) are those of the folder; the code that runs is ComfyUI's own. Needs ComfyUI's Python, and
its folder in COMFYUI_DIR.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACK = "clvr_pack"
KIND = "qwen3vl_8b"
"""Name under which ComfyUI keeps the sizes that are replaced."""


def load_clip_vlm(folder: Path) -> Any:
    """Return `nodes.vlm.comfy_clip.ClipVlm` on the model in the folder, on the CPU in float32. Raises SystemExit without
    a ComfyUI."""
    where = os.environ.get("COMFYUI_DIR")
    if not where or not (Path(where) / "comfy" / "sd.py").is_file():
        raise SystemExit("set COMFYUI_DIR to the folder of ComfyUI, and run this by its Python")
    sys.path.insert(0, where)
    arguments, sys.argv = sys.argv, [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.sd

    sys.argv = arguments
    config = json.loads((folder / "config.json").read_text()) | {"folder": str(folder)}
    target = types.SimpleNamespace(params={}, clip=_model(config), tokenizer=_tokenizer(folder, config))
    clip = comfy.sd.CLIP(target, state_dict=[_state(folder)])
    return _pack("nodes.vlm.comfy_clip").ClipVlm(clip, folder.name)


def _model(config: dict[str, Any]) -> Any:
    """Return ComfyUI's class with the sizes of this configuration."""
    import comfy.text_encoders.llama as llama
    import comfy.text_encoders.qwen3vl as qwen3vl
    import comfy.text_encoders.qwen_vl as qwen_vl
    import torch

    text, vision = config["text_config"], config["vision_config"]
    rope = text.get("rope_parameters") or text
    own = {name.name for name in dataclasses.fields(llama.Qwen3VL_8BConfig)}
    values = {name: value for name, value in text.items() if name in own}
    values |= {"rope_theta": rope["rope_theta"], "lm_head": not config["tie_word_embeddings"]}
    made = dataclasses.make_dataclass(
        "Sizes",
        [(name, Any, dataclasses.field(default=value)) for name, value in values.items()],
        bases=(llama.Qwen3VL_8BConfig,),
    )
    made.head_dim, made.rope_dims = text["head_dim"], rope["mrope_section"]
    ends = json.loads((Path(config["folder"]) / "generation_config.json").read_text())["eos_token_id"]
    made.stop_tokens = ends if isinstance(ends, list) else [ends]
    qwen3vl.QWEN3VL_CONFIGS[KIND] = made
    sizes = ("hidden_size", "intermediate_size", "depth", "deepstack_visual_indexes")
    qwen3vl.QWEN3VL_VISION[KIND] = {name: vision[name] for name in sizes}
    common = ("num_heads", "patch_size", "temporal_patch_size", "spatial_merge_size", "num_position_embeddings")
    qwen3vl.QWEN3VL_VISION_COMMON |= {name: vision[name] for name in common}
    read, size = (
        qwen_vl.process_qwen2vl_images,
        json.loads((Path(config["folder"]) / "preprocessor_config.json").read_text())["size"],
    )

    def process(images: Any, **given: Any) -> Any:
        bounds = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        return read(images, **given | bounds | {"patch_size": vision["patch_size"]})

    qwen_vl.process_qwen2vl_images = process
    return qwen3vl.te(dtype_llama=torch.float32, model_type=KIND)


def _tokenizer(folder: Path, config: dict[str, Any]) -> Any:
    """Return ComfyUI's tokenizer class with the words of the folder."""
    import comfy.text_encoders.qwen3vl as qwen3vl
    from comfy import sd1_clip
    from transformers import Qwen2TokenizerFast

    words = partial(
        sd1_clip.SDTokenizer,
        str(folder),
        pad_with_end=False,
        embedding_size=config["text_config"]["hidden_size"],
        embedding_key=KIND,
        tokenizer_class=Qwen2TokenizerFast,
        has_start_token=False,
        has_end_token=False,
        pad_to_max_length=False,
        max_length=99_999_999,
        min_length=1,
        pad_token=config["text_config"]["pad_token_id"],
    )
    image = config["image_token_id"]

    class Words(qwen3vl.Qwen3VLTokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            sd1_clip.SD1Tokenizer.__init__(self, embedding_directory, {}, name=KIND, tokenizer=lambda **_: words())

        def tokenize_with_weights(self, text: str, return_word_ids: bool = False, images: Any = (), **_: Any) -> Any:
            # As ComfyUI's own does for a prompt that begins with a turn, which has the id of its picture in it.
            made = sd1_clip.SD1Tokenizer.tokenize_with_weights(self, text, return_word_ids, disable_weights=True)
            waiting = list(images)
            for row in made[KIND]:
                for place, entry in enumerate(row):
                    if waiting and entry[0] == image:
                        picture = {"type": "image", "data": waiting.pop(0), "original_type": "image"}
                        row[place] = (picture, *entry[1:])
            return made

    return Words


def _state(folder: Path) -> dict[str, Any]:
    """Return the weights by ComfyUI's names."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    names = {"model.visual.": "visual.", "model.language_model.": "model.", "lm_head.": "model.lm_head."}
    renamed = {}
    for name, value in found.items():
        old, new = next(pair for pair in names.items() if name.startswith(pair[0]))
        renamed[new + name.removeprefix(old)] = value.float()
    return renamed


def _pack(module: str) -> Any:
    """Import a module of the pack without its nodes, which need a running ComfyUI."""
    for name, folder in (("", ROOT), ("nodes", ROOT / "nodes"), ("nodes.vlm", ROOT / "nodes" / "vlm")):
        package = types.ModuleType(f"{PACK}.{name}".rstrip("."))
        package.__path__ = [str(folder)]
        sys.modules[package.__name__] = package
    return importlib.import_module(f"{PACK}.{module}")
