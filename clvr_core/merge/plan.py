"""The plan of a merge: for all rows of the output, which bytes of which files they are made of.

Only headers are read here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import prod
from pathlib import Path

from ..errors import BadInput
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.dtypes import FLOATS
from ..weights.layout import Layout, atoms_of, block_of, tensor_of
from ..weights.quantised import FP8_MARK
from . import lowrank
from .inputs import Model, Part, cut, matched, refuse_other_kinds
from .lowrank import Term
from .presets import ALL, preset_blocks
from .products import LoraProduct
from .recipe import DTYPES, Lora, MergeRecipe, flag_of, matches


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of the merged file.

    An fp8 weight is followed by two more tensors: its scale, and a text that tells ComfyUI the format.

    dtype: by safetensors' name, such as BF16.
    start: byte of the file's data where it begins.
    scale_of: for a scale, the name of the fp8 weight; otherwise "".
    content: for the text, its bytes; otherwise empty.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int
    scale_of: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Segment:
    """An atom of the output and the inputs that it is computed from.

    atom: its name.
    output: the tensor that it is a part of.
    block: the name of its block, for figures by block.
    start: byte of the output's data where it begins.
    count: elements.
    columns: elements of a row.
    base, aligned, distilled: where its values are in the inputs; None for an input without a part in it.
    alpha, beta: strengths of aligned - base and distilled - base for this atom.
    terms: the low-rank deltas to add.
    more: role, place and strength of further checkpoints.
    copy: role of the one input whose values are copied unchanged, "" if the values are computed.
    """

    atom: str
    output: Output
    block: str
    start: int
    count: int
    columns: int
    base: Part
    aligned: Part | None
    distilled: Part | None
    alpha: float
    beta: float
    terms: tuple[Term, ...]
    more: tuple[tuple[str, Part, float], ...] = ()
    copy: str = ""

    @property
    def merged(self) -> bool:
        """Whether the elements are floating-point numbers, which are merged.

        Others must be equal in all inputs and are copied.
        """
        return self.output.dtype in FLOATS

    @property
    def nbytes(self) -> int:
        return self.count * (FLOATS[self.output.dtype] if self.merged else self.base.itemsize)

    def sources(self) -> Iterator[tuple[str, Part]]:
        """Yield the role and the part of each input, the base first."""
        for role, part in (("base", self.base), ("aligned", self.aligned), ("distilled", self.distilled)):
            if part is not None:
                yield role, part
        for role, part, _ in self.more:
            yield role, part

    def reads(self, measured: bool = False) -> dict[str, Part]:
        """Return the parts to read for the elements, by role: all sources, or only the one that is copied, unless the
        deltas are measured."""
        return {role: part for role, part in self.sources() if measured or self.copy in ("", role)}

    def strength(self, role: str) -> float:
        """Return the strength of the difference of an input from the base."""
        if role == "aligned":
            return self.alpha
        if role == "distilled":
            return self.beta
        return next(strength for each, _, strength in self.more if each == role)

    @property
    def _computed(self) -> bool:
        """Whether the elements cannot be a copy of one input as long as no source equals the base."""
        others = (self.aligned, self.alpha), (self.distilled, self.beta), *((part, each) for _, part, each in self.more)
        strengths = [strength for part, strength in others if part is not None]
        return bool(self.terms) or len(strengths) > 1 or strengths not in ([], [1.0])

    def simplified(self, equal: Collection[str]) -> Segment:
        """Return the segment without the sources whose values all equal the base's (roles `equal`).

        A single delta of strength 1 becomes a copy of its source. So a merge with aligned = base gives distilled bit
        for bit, even where base + (distilled - base) would round.
        """
        if not equal and self._computed:
            return self
        roles = [role for role, _ in self.sources() if role != "base" and role not in equal]
        alone = not self.terms and len(roles) < 2 and (not roles or self.strength(roles[0]) == 1.0)
        return Segment(  # and not `replace`, which asks for each field by its name: there are many segments
            self.atom,
            self.output,
            self.block,
            self.start,
            self.count,
            self.columns,
            self.base,
            None if "aligned" in equal else self.aligned,
            None if "distilled" in equal else self.distilled,
            self.alpha,
            self.beta,
            self.terms,
            tuple([each for each in self.more if each[0] not in equal]),
            [*roles, "base"][0] if alone else self.copy,
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of a LoRA's delta that are written beside the merged file (`keep_lora`) for rows of a tensor of the output.

    product: the LoRA module.
    source: first row of the product.
    row: first row of the output's tensor.
    rows: how many rows.
    factor: factor on the delta, from the recipe's blocks.
    """

    product: LoraProduct
    source: int
    row: int
    rows: int
    factor: float


@dataclass
class MergePlan:
    """The open inputs and how the output is made from them. Close it, or use it in `with`.

    models: the checkpoints, the base first.
    loras: the LoRA and LoKr files with their strengths.
    layout: of the output.
    outputs: the tensors of the merged file, in the order of its bytes.
    segments: the atoms of the output; `survey` replaces them by simplified ones.
    kept: with `keep_lora`, the LoRA rows that are kept out of each tensor of the output, by its name.
    warnings: sentences for the user.
    settled: the strengths of the segments are those of `combine`, where it changes them.
    """

    recipe: MergeRecipe
    models: tuple[Model, ...]
    loras: tuple[tuple[Checkpoint, float], ...]
    layout: Layout
    outputs: tuple[Output, ...]
    segments: tuple[Segment, ...]
    kept: dict[str, tuple[Kept, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    settled: bool = False

    @property
    def base(self) -> Model:
        return self.models[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the output's data."""
        return sum(output.nbytes for output in self.outputs)

    @property
    def checkpoints(self) -> tuple[tuple[str, Checkpoint], ...]:
        """Role and checkpoint of every input, the LoRAs last."""
        return (*((model.role, model.checkpoint) for model in self.models), *(("lora", file) for file, _ in self.loras))

    def __enter__(self) -> MergePlan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for _, checkpoint in self.checkpoints:
            checkpoint.close()


def make_plan(recipe: MergeRecipe) -> MergePlan:
    """Open the inputs of a recipe, read their headers and plan the merge.

    Raises BadInput for inputs that cannot be merged; the sentence names the file, the tensor and the remedy.
    """
    opened: list[Checkpoint] = []
    try:
        return _Planner(recipe, opened).plan()
    except BaseException:
        for checkpoint in opened:
            checkpoint.close()
        raise


def added_roles(recipe: MergeRecipe) -> list[tuple[str, Lora]]:
    """Return the further checkpoints of a recipe with their roles."""
    return [(f"added {number}", each) for number, each in enumerate(recipe.added, 1)]


class _Planner:
    def __init__(self, recipe: MergeRecipe, opened: list[Checkpoint]) -> None:
        self.recipe, self.opened = recipe, opened
        self.warnings: list[str] = []

    def plan(self) -> MergePlan:
        recipe = self.recipe
        base = self._model("base", recipe.base)
        if recipe.preset != ALL:
            blocks = preset_blocks(recipe.preset, {block_of(atom, base.layout) for atom in base.atoms})
            recipe = self.recipe = replace(recipe, blocks=(*blocks, *recipe.blocks), preset=ALL)
        models, loras = [base], []
        for role, path in (("aligned", recipe.aligned), ("distilled", recipe.distilled)):
            if path is None:
                continue
            checkpoint = self._open(path)
            if role == "aligned" and lowrank.is_low_rank(checkpoint.tensors):
                loras.append((checkpoint, recipe.alpha))
            else:
                models.append(matched(base, cut(role, checkpoint, self.warnings), self.warnings))
        for role, lora in added_roles(recipe):
            models.append(matched(base, self._model(role, lora.path), self.warnings))
        if recipe.combine == "orthogonal" and (
            recipe.distilled is None or len(models) + len(loras) + len(recipe.loras) < 3
        ):
            raise BadInput(
                "--combine orthogonal keeps what the others do out of the distilled delta; give --distilled and one more"
            )
        if loras or recipe.loras:
            refuse_other_kinds(base)
        loras += [(self._open(lora.path), lora.strength) for lora in recipe.loras]
        if recipe.keep_lora and not loras:
            raise BadInput("--keep-lora has nothing to keep: no input is a LoRA; give --lora FILE:STRENGTH")
        terms = [lowrank.terms_of(file, strength, base.layout, base.atoms, self.warnings) for file, strength in loras]
        layout: Layout = base.layout if recipe.layout == "base" else recipe.layout
        if layout != base.layout and base.layout == "plain":
            raise BadInput(
                f"--layout {layout}: {base.checkpoint.path} is no FLUX.2, and only FLUX.2 is converted; leave --layout out"
            )
        outputs, homes = self._outputs(models, layout)
        by_role = {model.role: model.atoms for model in models}
        segments = []
        for atom, (output, start) in homes.items():
            align, distil = recipe.factors(_names(atom, base.layout))
            part = base.atoms[atom]
            deltas = [term for each in terms for term in each.get(atom, ())]
            alpha, beta = recipe.alpha * align, recipe.beta * distil
            segment = Segment(
                atom,
                output,
                block_of(atom, base.layout),
                start,
                part.count,
                prod(part.shape[1:]),
                part,
                by_role["aligned"].get(atom) if "aligned" in by_role and alpha else None,
                by_role["distilled"].get(atom) if "distilled" in by_role and beta else None,
                alpha,
                beta,
                tuple(replace(term, factor=align) for term in deltas if align * term.product.scale),
                tuple(
                    (role, by_role[role][atom], align * lora.strength)
                    for role, lora in added_roles(recipe)
                    if atom in by_role[role] and align * lora.strength
                ),
            )
            if segment.terms and not segment.merged:
                stored = part.tensor
                raise BadInput(
                    f"{stored.file.path}: {stored.name} is {stored.dtype} without scales of any known quantiser, and a LoRA changes "
                    f"{segment.atom}; merge the LoRA into the bf16 safetensors of the same model, or leave the weight out with --exclude"
                )
            segments.append(segment)
        self._check_patterns(base)
        kept = {}
        if recipe.keep_lora:
            kept = _kept_rows(segments)
            segments = [replace(segment, terms=()) for segment in segments]
        return MergePlan(recipe, tuple(models), tuple(loras), layout, outputs, tuple(segments), kept, self.warnings)

    def _open(self, path: Path) -> Checkpoint:
        self.opened.append(open_checkpoint(path))
        return self.opened[-1]

    def _model(self, role: str, path: Path) -> Model:
        checkpoint = self._open(path)
        if lowrank.is_low_rank(checkpoint.tensors):
            raise BadInput(
                f"{path} is a LoRA and cannot be the {role}; give a full checkpoint as {flag_of(role)}, a LoRA as --lora"
            )
        return cut(role, checkpoint, self.warnings)

    def _outputs(self, models: list[Model], layout: Layout) -> tuple[tuple[Output, ...], dict[str, tuple[Output, int]]]:
        """Return the tensors of the merged file in the order of its bytes, and for each atom its tensor and its first
        byte."""
        base = models[0]
        names: dict[str, tuple[str, ...]] = {}
        for atom, part in base.atoms.items():
            name = part.tensor.name if layout == base.layout else tensor_of(atom, layout)
            if name not in names:
                names[name] = atoms_of(name.removeprefix(base.prefix), layout)
        fp8_atoms = _fp8_atoms(models) if self.recipe.dtype == "fp8" else set()
        drafts = []
        for name, atoms in names.items():
            if missing := [atom for atom in atoms if atom not in base.atoms]:
                raise BadInput(
                    f"{base.checkpoint.path} lacks {missing[0]}, a part of {name}; use an unpruned checkpoint"
                )
            parts = [base.atoms[atom] for atom in atoms]
            if len(parts) == 1:
                shape = parts[0].tensor.shape if layout == base.layout else parts[0].shape
            else:
                if len({part.shape for part in parts}) > 1:
                    raise BadInput(
                        f"{base.checkpoint.path}: the parts of {name} have different shapes; use an unpruned checkpoint"
                    )
                shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
            dtype = self._dtype(parts, fp8_atoms.issuperset(atoms))
            drafts.append((name, dtype, shape, atoms))
            if dtype == "F8_E4M3":
                drafts.append((f"{name}_scale", "F32", (), ()))
                drafts.append((f"{name.removesuffix('.weight')}.comfy_quant", "U8", (len(FP8_MARK),), ()))
        # Large elements first, as safetensors' own writer orders them, so that each tensor is aligned to its elements.
        drafts.sort(key=lambda draft: -_itemsize(draft[1]))
        outputs, homes, end = [], {}, 0
        for name, dtype, shape, atoms in drafts:
            scale_of = name.removesuffix("_scale") if not atoms and dtype == "F32" else ""
            content = FP8_MARK if not atoms and dtype == "U8" else b""
            output = Output(name, dtype, shape, end, prod(shape) * _itemsize(dtype), scale_of, content)
            outputs.append(output)
            for index, atom in enumerate(atoms):
                homes[atom] = (output, end + index * output.nbytes // len(atoms))
            end += output.nbytes
        return tuple(outputs), homes

    def _dtype(self, parts: list[Part], fp8: bool) -> str:
        dtype = parts[0].form[0]
        if dtype not in FLOATS:
            return dtype
        if self.recipe.dtype in ("base", "fp8"):
            if fp8:
                return "F8_E4M3"
            return "BF16" if parts[0].quantised else dtype
        return DTYPES[self.recipe.dtype]

    def _check_patterns(self, base: Model) -> None:
        recipe = self.recipe
        names = [_names(atom, base.layout) for atom in base.atoms]
        for pattern in (*(block.pattern for block in recipe.blocks), *recipe.include, *recipe.exclude):
            if not any(matches(pattern, each) for each in names):
                blocks = list(dict.fromkeys(block_of(atom, base.layout) for atom in base.atoms))
                near = get_close_matches(pattern, blocks, 3, 0) or blocks[:3]
                raise BadInput(
                    f"the pattern {pattern!r} matches nothing in {base.checkpoint.path}; its blocks are like {', '.join(near)}"
                )


def _names(atom: str, layout: Layout) -> tuple[str, ...]:
    """Return all names that a pattern may use for an atom."""
    if layout == "plain":
        return (atom,)
    return tensor_of(atom, "bfl"), tensor_of(atom, "diffusers")


def _fp8_atoms(models: list[Model]) -> set[str]:
    """Return the atoms to store in fp8: those that an input stores in 8 bits, or else the matrices of the numbered
    blocks.

    Only the diffusion model's: ComfyUI reads no scales of a text encoder, of embeddings or of a VAE in a checkpoint.
    """
    for model in models:
        if found := {
            atom
            for atom, part in model.atoms.items()
            if part.quantised and atom.endswith(".weight") and len(part.shape) == 2 and model.is_inside(part)
        }:
            return found
    return {
        atom
        for atom, part in models[0].atoms.items()
        if len(part.shape) == 2
        and atom.endswith(".weight")
        and models[0].is_inside(part)
        and part.form[0] in FLOATS
        and block_of(atom, models[0].layout)[-1].isdecimal()
    }


def _itemsize(dtype: str) -> int:
    return FLOATS.get(dtype) or {"BOOL": 1}.get(dtype) or int(dtype[1:]) // 8


def _kept_rows(segments: list[Segment]) -> dict[str, tuple[Kept, ...]]:
    found: dict[str, list[Kept]] = {}
    for segment in segments:
        row = (segment.start - segment.output.start) // (_itemsize(segment.output.dtype) * segment.columns)
        for term in segment.terms:
            if not isinstance(term.product, LoraProduct):
                raise BadInput(
                    f"--keep-lora: the delta of {segment.atom} is a LoKr, LoHa, DoRA or whole difference, which is no product of two thin "
                    "matrices; leave the flag out"
                )
            found.setdefault(segment.output.name, []).append(
                Kept(term.product, term.row, row + term.first, term.rows, term.factor)
            )
    return {name: tuple(kept) for name, kept in found.items()}
