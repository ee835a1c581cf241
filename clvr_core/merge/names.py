"""Finds the weights of a base by the names that LoRAs use: of any trainer, in either naming of a family of models.

The families have two namings each, that of their authors, which ComfyUI uses ("native"), and that of diffusers. Where
one fuses what the other has apart (qkv), the rows are matched. Sources: ComfyUI's `flux_to_diffusers`,
`z_image_to_diffusers`, `unet_to_diffusers` and `transformers_convert`; for FLUX.2 see weights/layout.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from ..weights.layout import PREFIXES, Layout, atoms_of, tensor_of

_DOTTED = ("base_model.model.", "model.diffusion_model.", *PREFIXES)
_ENCODED = ("lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_transformer_", "lycoris_", "lora_")
_ENCODER = re.compile(r"(?:lora_te(\d?)_|lycoris_te(\d?)_|text_encoder(?:_(\d))?\.|te(\d?)[._])(.+)")
_FULL = "text_encoders."
"""Beginning of the names of text encoders that ComfyUI gives LoRAs and checkpoints alike."""
_ROOT = re.compile(
    r"(conditioner\.embedders\.\d\.(?:transformer|model)|cond_stage_model\.(?:transformer|model)|text_encoders\.\w+\.transformer)\..+"
)
"""Where whole checkpoints have their text encoders."""

_FLUX = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear/halves",
    **{
        f"double_blocks.#.{native}": " ".join(f"transformer_blocks.#.{each}" for each in theirs.split())
        for native, theirs in {
            "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
            "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
            "img_attn.proj": "attn.to_out.0",
            "txt_attn.proj": "attn.to_add_out",
            "img_attn.norm.query_norm": "attn.norm_q",
            "img_attn.norm.key_norm": "attn.norm_k",
            "txt_attn.norm.query_norm": "attn.norm_added_q",
            "txt_attn.norm.key_norm": "attn.norm_added_k",
            "img_mod.lin": "norm1.linear",
            "txt_mod.lin": "norm1_context.linear",
            "img_mlp.0": "ff.net.0.proj",
            "img_mlp.2": "ff.net.2",
            "txt_mlp.0": "ff_context.net.0.proj",
            "txt_mlp.2": "ff_context.net.2",
        }.items()
    },
    **{
        f"single_blocks.#.{native}": " ".join(f"single_transformer_blocks.#.{each}" for each in theirs.split())
        for native, theirs in {
            "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp",
            "linear2": "proj_out",
            "modulation.lin": "norm.linear",
            "norm.query_norm": "attn.norm_q",
            "norm.key_norm": "attn.norm_k",
        }.items()
    },
}
_Z_IMAGE = {
    "x_embedder": "all_x_embedder.2-1",
    "final_layer.linear": "all_final_layer.2-1.linear",
    "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
    **{
        f"{stack}.#.attention.{native}": " ".join(f"{stack}.#.attention.{each}" for each in theirs.split())
        for stack in ("layers", "noise_refiner", "context_refiner")
        for native, theirs in {
            "qkv": "to_q to_k to_v",
            "out": "to_out.0",
            "q_norm": "norm_q",
            "k_norm": "norm_k",
        }.items()
    },
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET = {
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
}
_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Rows of a weight of the base that take rows of a delta.

    atom: the weight.
    first: its first row of these.
    rows: how many.
    source: the first row of the delta.
    """

    atom: str
    first: int
    rows: int
    source: int


class Names:
    """The weights of a base by the names that LoRAs may use for them.

    A name with underscores in place of dots is looked up among those of the base; where its dots were is never guessed.
    """

    def __init__(self, layout: Layout, atoms: Mapping[str, tuple[int, ...]]) -> None:
        """atoms: the shapes of the base's atoms by name."""
        self._atoms, self._layout = atoms, layout
        self._encoders: set[str] = set()
        self._exact: dict[str, tuple[Place, ...]] = {}
        for module, places in self._modules():
            self._exact.setdefault(module, places)
        encoded: dict[str, set[tuple[Place, ...]]] = {}
        for module, places in self._exact.items():
            encoded.setdefault(module.replace(".", "_"), set()).add(places)
        self._encoded = {name: found.copy().pop() for name, found in encoded.items() if len(found) == 1}

    def find(self, module: str, parameter: str = "weight") -> tuple[Place, ...]:
        """Return the places of the module's weight, from the first row of the delta on; () if the base has none.

        parameter: `bias` for the module's bias.
        """
        found = self._found(module)
        if parameter == "weight" or not found:
            return found
        named = ((place, f"{place.atom.removesuffix('weight')}{parameter}") for place in found)
        places = tuple(Place(atom, place.first, place.rows, place.source) for place, atom in named)
        return places if all(place.atom in self._atoms for place in places) else ()

    def encoder_of(self, module: str) -> str:
        """Return the text encoder that a module belongs to, such as te2; "" for a module of the diffusion model."""
        found = _ENCODER.fullmatch(module)
        if module.startswith(_FULL):
            return ".".join(module.split(".")[:2])
        return f"te{next(filter(None, found.groups()[:-1]), '1')}" if found else ""

    def holds(self, encoder: str) -> bool:
        """Say whether the base has this text encoder."""
        return encoder in self._encoders

    def _found(self, module: str) -> tuple[Place, ...]:
        encoder = self.encoder_of(module)
        if encoder and not module.startswith(_FULL):
            found = _ENCODER.fullmatch(module)
            return self._encoded.get(f"{encoder}:{found[found.lastindex or 0].replace('.', '_')}", ()) if found else ()
        names = [module]
        for prefix in (*_DOTTED, "base_model.model."):
            names.append(names[-1].removeprefix(prefix))
        names = [re.sub(r"\.processor\.|_processor_(?=to_)", lambda each: each[0][0], name) for name in names]
        for name in dict.fromkeys(names):
            for prefix in ("", *_ENCODED):
                if not name.startswith(prefix):
                    continue
                bare = name.removeprefix(prefix)
                for form in (bare, f"{bare}.0" if bare.endswith(("to_out", "to_add_out")) else bare):
                    if found := self._exact.get(form) or self._encoded.get(form.replace(".", "_")):
                        return found
        return ()

    def _modules(self) -> Iterator[tuple[str, tuple[Place, ...]]]:
        """Yield the names of the modules and the places of their weights, the base's own names first."""
        own = {}
        for atom, shape in self._atoms.items():
            module, _, parameter = atom.rpartition(".")
            if shape and (parameter == "weight" or (parameter == "scale" and module.endswith("_norm"))):
                own[module] = Place(atom, 0, shape[0], 0)
        if self._layout == "plain":
            yield from ((module, (place,)) for module, place in own.items())
            yield from self._other_naming(own)
        else:
            yield from self._flux2()
        yield from self._text_encoders(own)

    def _flux2(self) -> Iterator[tuple[str, tuple[Place, ...]]]:
        layouts: tuple[Layout, ...] = ("bfl", "diffusers")
        names: dict[str, Layout] = {tensor_of(atom, each): each for each in layouts for atom in self._atoms}
        for name in list(names):
            if name.startswith("double_blocks.") and name.endswith("_attn.qkv.weight"):
                block = name.removeprefix("double_blocks.").partition(".")[0]
                fused = "to_added_qkv" if ".txt_attn." in name else "to_qkv"
                names[f"transformer_blocks.{block}.attn.{fused}.weight"] = "diffusers"
        for name, layout in names.items():
            pieces = atoms_of(name, layout)
            if not name.endswith((".weight", "_norm.scale")) or not all(atom in self._atoms for atom in pieces):
                continue
            places, row = [], 0
            for atom in pieces:
                rows = self._atoms[atom][0]
                places.append(Place(atom, 0, rows, row))
                row += rows
            yield name.rpartition(".")[0], tuple(places)

    def _other_naming(self, own: Mapping[str, Place]) -> Iterator[tuple[str, tuple[Place, ...]]]:
        for native, theirs in _pairs(own):
            halves = theirs.endswith("/halves")
            pieces = theirs.removesuffix("/halves").split()
            if native in own:
                place = own[native]
                sizes = self._sizes(place, len(pieces))
                if halves:
                    half = place.rows // 2
                    yield pieces[0], (Place(place.atom, half, half, 0), Place(place.atom, 0, half, half))
                elif sum(sizes) == place.rows:
                    row = 0
                    for piece, rows in zip(pieces, sizes):
                        yield piece, (Place(place.atom, row, rows, 0),)
                        row += rows
                    if len(pieces) > 2:
                        fused = Place(place.atom, 0, sum(sizes[:3]), 0)
                        yield from ((name, (fused,)) for name in _fused(native, pieces[0]))
            elif all(piece in own for piece in pieces):
                places, row = [], 0
                for piece in pieces:
                    place = own[piece]
                    places.append(Place(place.atom, 0, place.rows, row))
                    row += place.rows
                if halves:
                    place, half = own[pieces[0]], own[pieces[0]].rows // 2
                    places = [Place(place.atom, half, half, 0), Place(place.atom, 0, half, half)]
                yield native, tuple(places)
                yield from ((name, tuple(places[:3])) for name in _fused(native, pieces[0]) if len(pieces) > 2)

    def _sizes(self, place: Place, pieces: int) -> list[int]:
        """Return the rows of each piece: equal, but for q, k, v and the MLP of FLUX.1, where q, k and v are square."""
        if pieces < 4:
            return [place.rows // pieces] * pieces
        side = prod(self._atoms[place.atom][1:])
        return [side, side, side, place.rows - 3 * side]

    def _text_encoders(self, own: Mapping[str, Place]) -> Iterator[tuple[str, tuple[Place, ...]]]:
        roots = {f"{found[1]}." for module in own if (found := _ROOT.fullmatch(module))}
        roots = sorted(roots, key=lambda root: root.replace("clip_l", "clip_a"))  # which is the first
        for number, root in enumerate(roots, 1):
            encoder = f"te{number}"
            self._encoders |= {encoder, ".".join(root.split(".")[:2])}
            for module, place in own.items():
                if module.startswith(root):
                    for name in _clip_names(module.removeprefix(root)):
                        yield f"{encoder}:{name}", (place,)
            yield from self._fused_clip(encoder, root)

    def _fused_clip(self, encoder: str, root: str) -> Iterator[tuple[str, tuple[Place, ...]]]:
        """Yield q, k and v of OpenCLIP's fused attention."""
        for atom, shape in self._atoms.items():
            if found := re.fullmatch(re.escape(root) + r"transformer\.resblocks\.(\d+)\.attn\.in_proj_weight", atom):
                rows = shape[0] // 3
                for index, each in enumerate("qkv"):
                    name = f"{encoder}:text_model.encoder.layers.{found[1]}.self_attn.{each}_proj"
                    yield name, (Place(atom, index * rows, rows, 0),)


def _pairs(own: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    """Yield the native name of each module of the family and its pieces in diffusers' naming, with numbers."""
    flux = any(name.startswith(("double_blocks.", "single_transformer_blocks.")) for name in own)
    if flux or "cap_embedder.1" in own:
        table = _FLUX if flux else _Z_IMAGE
        numbers = sorted({each for name in own for each in re.findall(r"^[a-z_]+\.(\d+)\.", name)}, key=int)
        for native, theirs in table.items():
            for number in numbers if "#" in native else ("",):
                yield native.replace("#", number), theirs.replace("#", number)
    if "input_blocks.0.0" in own or "conv_in" in own:
        yield from _UNET.items()
        yield from _unet_blocks(own)


def _fused(native: str, piece: str) -> tuple[str, ...]:
    """Return the names of a fused q, k and v where trainers give them their own."""
    if native.endswith("linear1"):
        return (f"{native}_qkv",)
    if piece.endswith(("to_q", "add_q_proj")):
        return (piece.replace("add_q_proj", "to_added_qkv").replace("to_q", "to_qkv"),)
    return ()


def _unet_blocks(own: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    """Yield the modules of the blocks of a UNet of Stable Diffusion 1, 2 or XL, two resnets in each block."""
    tails = {
        re.sub(r"^.*?\.attentions\.\d+\.|^(input|output)_blocks\.\d+\.1\.|^middle_block\.1\.", "", name) for name in own
    }
    attention = [tail for tail in tails if tail.startswith(("norm", "proj_", "transformer_blocks."))]
    resnet = list(_RESNET.items())
    for level in range(4):
        for index in range(2):
            native, theirs = f"input_blocks.{1 + 3 * level + index}", f"down_blocks.{level}"
            yield from ((f"{native}.0.{one}", f"{theirs}.resnets.{index}.{two}") for one, two in resnet)
            yield from ((f"{native}.1.{tail}", f"{theirs}.attentions.{index}.{tail}") for tail in attention)
        yield f"input_blocks.{3 + 3 * level}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
        for index in range(3):
            native, theirs = f"output_blocks.{3 * level + index}", f"up_blocks.{level}"
            yield from ((f"{native}.0.{one}", f"{theirs}.resnets.{index}.{two}") for one, two in resnet)
            yield from ((f"{native}.1.{tail}", f"{theirs}.attentions.{index}.{tail}") for tail in attention)
        for second in (1, 2):
            yield f"output_blocks.{3 * level + 2}.{second}.conv", f"up_blocks.{level}.upsamplers.0.conv"
    for index in range(2):
        yield from ((f"middle_block.{2 * index}.{one}", f"mid_block.resnets.{index}.{two}") for one, two in resnet)
    yield from ((f"middle_block.1.{tail}", f"mid_block.attentions.0.{tail}") for tail in attention)


def _clip_names(module: str) -> Iterator[str]:
    """Yield the name of a module of a text encoder, for one of OpenCLIP that of transformers."""
    yield module
    if (found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", module)) and found[2] in _CLIP:
        yield f"text_model.encoder.layers.{found[1]}.{_CLIP[found[2]]}"
