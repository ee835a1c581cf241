"""The embedded world as one record of what works in it needs: words, scenes, reader, controller and judge, weights.

What works in an embedded world takes its `World`, and imports nothing of `stickers`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from .errors import BadInput
from .protocols import Picture, Vlm
from .weights.shared import place_of

if TYPE_CHECKING:
    from .executor.klein import KleinExecutor

WorldName = Literal["stickers"]
WORLDS: tuple[WorldName, ...] = get_args(WorldName)
EMBEDDED: WorldName = "stickers"
"""The world that `embedded` means, the models that draw where no others are named."""
FORMER = "shapes"
"""The embedded world of version 0.1; its name now means that of EMBEDDED."""
EXACT: Literal["-exact"] = "-exact"
"""What follows a world's name in `--models` for its programs as controller and judge, the control for learned ones."""
NEURAL: Literal["-neural"] = "-neural"
"""What follows it for its learned model as controller and judge."""
VlmKind = Literal["", "-exact", "-neural"]
"""The usual controller and judge, the programs, or the learned model."""
KINDS = {"": "merged", "-base": "weights", "-distilled": "distilled", EXACT: "merged", NEURAL: "merged"}
"""What follows a world's name in `--models`, and the folder of its package that has those weights."""
ALIGNED = "aligned/pytorch_lora_weights.safetensors"
"""The LoRA of the alignment, in the folder of a world's package."""


class WorldVlm(Vlm, Protocol):
    """The controller and judge of a world, a program or a learned model."""

    def require_readable(self, prompt: str) -> None:
        """Raises NotInGrammar for a brief in other words than the world's."""
        ...


class EmbeddedVlm(WorldVlm, Protocol):
    """The controller and judge of a world that are programs, which can be made to err."""

    def plan(self, prompt: str, seed: int, attempt: int = 0) -> str:
        """Return the brief with a place for every thing, as this planner understands it."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """An embedded world. Its specs, scenes, instructions and perceptions are its own; only its functions look into them.

    name: as `--models` and `clvr train` have it.
    canvas: pixels of a side of its pictures, which have a grid of 3 x 3 cells, a token each.
    cells: their number.
    bits: least and greatest description length of the probe's briefs.
    longest: words and marks, at most, of a brief that its text encoder reads whole.
    folder: of its package, with the weights that are installed.
    learned: folder of its learned controller and judge, whether it has weights yet or not; None if there is none.
    NotInGrammar: raised for what the grammar does not read.
    parse, parse_instruction: a brief to its spec; an instruction to its changes, empty if none was understood.
    tokens_of: the words and marks of a text.
    whole: a scene to its fullest spec.
    write: a spec, a register and a random.Random to a prompt.
    instruct, restore: an edit and its scene, or a cell, to an instruction.
    scene: makes an empty scene. apply: an edit and a scene to the scene after it. render: a scene to a picture.
    perceive: a picture to what is seen in it.
    reads_by: what reads it where that is not the world's own reader; "" where it is.
    check_edit: pictures before and after, the expected scene and the cells of the edit to its check.
    held: a brief and what is seen to whether each of its statements holds.
    done: a change and the scenes before and after it to whether it was carried out.
    after: a change, a scene and the scenes of all references to the scene after it.
    load_vlm: flip, seed, errors, planning and planning_errors to the controller and judge.
    sampling: the module of random scenes, briefs, edits and samples.
    """

    name: WorldName
    canvas: int
    cells: int
    bits: tuple[float, float]
    longest: int
    folder: Path
    learned: Path | None
    NotInGrammar: type[BadInput]
    parse: Callable[[str], Any]
    parse_instruction: Callable[[str], Sequence[Any]]
    tokens_of: Callable[[str], list[str]]
    whole: Callable[[Any], Any]
    write: Callable[..., str]
    instruct: Callable[..., str]
    restore: Callable[[int], str]
    scene: Callable[[], Any]
    apply: Callable[[Any, Any], Any]
    render: Callable[[Any], Picture]
    perceive: Callable[[Picture], Any]
    reads_by: Callable[[], str]
    check_edit: Callable[..., Any]
    held: Callable[[str, Any], list[bool]]
    done: Callable[[Any, Any, Any], bool]
    after: Callable[[Any, Any, Sequence[Any]], Any]
    load_vlm: Callable[..., EmbeddedVlm]
    sampling: ModuleType

    @property
    def base(self) -> Path:
        return self.folder / KINDS["-base"]

    @property
    def merged(self) -> Path:
        return self.folder / KINDS[""]

    def meets(self, prompt: str, seen: Any) -> bool:
        """Say whether what is seen is exactly what the brief asks for."""
        return all(self.held(prompt, seen))

    @property
    def neural(self) -> bool:
        """Whether the usual controller and judge are the learned ones: where these have weights that were published as
        the usual ones."""
        if self.learned is None or not any(self.learned.glob("*.safetensors")):
            return False
        return bool(json.loads((self.learned / "run.json").read_text("utf-8")).get("usual"))

    def vlm(self, kind: VlmKind = "") -> WorldVlm:
        """Return a controller and judge: the usual ones, the programs (EXACT), which never err, or the learned ones (NEURAL).

        Raises BadInput if the reader by which the programs see is missing, and for learned weights that are missing or do
        not load.
        """
        if kind == NEURAL or (self.neural and kind != EXACT):
            from .stickers.neural import NeuralVlm

            assert self.learned is not None
            return NeuralVlm(self.learned)
        self.perceive(np.zeros((self.canvas, self.canvas, 3), np.uint8))
        return self.load_vlm()

    def load_executor(self, folder: Path | None = None) -> KleinExecutor:
        """Load weights of this world, those installed unless a folder is named.

        Raises BadInput if they are missing, damaged or of another world.
        """
        from .executor.klein import KleinExecutor
        from .executor.quiet import quietly

        folder = folder or self.merged
        if folder.is_relative_to(self.folder) and not folder.exists():
            raise BadInput(
                f"the {self.name} world has no weights in {folder} yet; name a folder of such weights with --weights DIR, "
                f"as `clvr train {self.name}` makes"
            )
        with quietly():
            executor = KleinExecutor.load(folder)
        if (side := executor.pipe.vae.config.sample_size) != self.canvas:
            raise BadInput(f"the weights in {folder} draw {side} px; those of the {self.name} world draw {self.canvas}")
        executor.name = self.name if folder == self.merged else f"{self.name} ({folder.name})"
        return executor


@cache
def _stickers() -> World:
    from .stickers import grammar, judge, load_vlm, perceive, phrases, proxies, render, sampling, scene

    folder = Path(__file__).parent / "stickers"
    return World(
        name="stickers",
        canvas=scene.CANVAS,
        cells=len(scene.CELLS),
        bits=(12.0, 156.0),
        longest=112,
        folder=folder,
        learned=folder / "vlm",
        NotInGrammar=grammar.NotInGrammar,
        parse=grammar.parse,
        parse_instruction=grammar.parse_instruction,
        tokens_of=grammar.tokens_of,
        whole=phrases.whole,
        write=phrases.write,
        instruct=phrases.instruct,
        restore=phrases.restore,
        scene=scene.Scene,
        apply=scene.apply,
        render=render.render,
        perceive=perceive.perceive,
        reads_by=perceive.source,
        check_edit=perceive.check_edit,
        held=judge.held,
        done=judge.done,
        after=proxies.after,
        load_vlm=load_vlm,
        sampling=sampling,
    )


_MAKE: dict[str, Callable[[], World]] = {"stickers": _stickers}


def world_named(name: str = EMBEDDED) -> World:
    """Return a world by its name; `embedded` is that of EMBEDDED. The same record each time."""
    return _MAKE[full_name(name)]()


def names() -> tuple[str, ...]:
    """The names of embedded models, as `--models` takes them; `embedded` in place of a world's name is that of EMBEDDED."""
    return tuple(world + kind for world in WORLDS for kind in KINDS)


def vlm_named(models: str) -> WorldVlm:
    """Return the controller and judge that a name of embedded models has, the usual ones for names without a kind of
    theirs. Raises BadInput as `World.vlm` does."""
    world, dash, kind = full_name(models).partition("-")
    kinds: dict[str, VlmKind] = {EXACT: EXACT, NEURAL: NEURAL}
    return world_named(world if world in WORLDS else EMBEDDED).vlm(kinds.get(dash + kind, ""))


def full_name(models: str) -> str:
    """Return the name with that of EMBEDDED in place of `embedded` and of FORMER, others as they are."""
    world, dash, kind = current(models).partition("-")
    return EMBEDDED + dash + kind if world == "embedded" else current(models)


def current(models: str) -> str:
    """Return the name with that of EMBEDDED in place of FORMER, which is said once on stderr; others as they are."""
    world, dash, kind = models.partition("-")
    if world != FORMER:
        return models
    _say_former()
    return EMBEDDED + dash + kind


@cache
def _say_former() -> None:
    print(
        f"the {FORMER} world is no longer part of clvr: {FORMER} now means the {EMBEDDED} world, whose briefs have other "
        f"words; write {EMBEDDED} or embedded",
        file=sys.stderr,
    )


def embedded_weights(models: str, weights: str = "") -> tuple[World, Path] | None:
    """Return the world and the folder of weights that `--models` and `--weights` name; None if they are no embedded
    models.

    models: one of `names`, or a folder of weights, whose size of canvas says the world.
    weights: a folder in place of what is installed under the name.

    Raises BadInput for a folder of weights of no world.
    """
    world, dash, kind = full_name(models).partition("-")
    if world + dash + kind in names():
        found = world_named(world)
        return found, Path(weights) if weights else found.folder / KINDS[dash + kind]
    if (Path(models) / "model_index.json").is_file():
        return world_of(Path(models)), Path(models)
    return None


def world_of(folder: Path) -> World:
    """Return the world of a folder of weights, by the size of its pictures. Raises BadInput for one of no world, and as
    `shared_parts` does."""
    config = place_of(folder, "vae") / "config.json"
    try:
        side = json.loads(config.read_text())["sample_size"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{config} does not say what the weights draw ({error}); restore the folder") from error
    for name in WORLDS:
        if world_named(name).canvas == side:
            return world_named(name)
    sides = ", ".join(f"{name} {world_named(name).canvas}" for name in WORLDS)
    raise BadInput(
        f"the weights in {folder} draw {side} px, so they are of no embedded world ({sides}); see docs/models.md"
    )
