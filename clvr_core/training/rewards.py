"""Rewards for a drawn step: an embedded world's reader, a vision-language model by decisions, or any function.

A reward answers three questions; `ARMS` says which of them each arm asks, and with which words.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..brief import Brief, Goal
from ..controller import draft_goals
from ..errors import BadInput
from ..protocols import Concurrent, Picture, Question, Vlm
from ..trajectory import Action
from ..verifier import check_edit as ask_edit
from ..verifier.prompts import goal_question, quoted
from ..vlm.decisions import decide
from ..world import WORLDS, World, full_name, world_named
from .samples import Sample


class Reward(Protocol):
    """Answers three questions about a drawn step, each with 0 to 1, or None without an answer."""

    def scene(self, picture: Picture, prompt: str) -> float | None:
        """R_T2I: how well the picture shows what the prompt describes."""
        ...

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float | None:
        """R_I2I: was the instruction carried out on the first reference, and nothing else changed."""
        ...

    def said(self, picture: Picture, words: str) -> float | None:
        """Whether the picture alone agrees with the last words, scene or instruction."""
        ...


Score = Callable[[Reward, Sample, Picture], "float | None"]


def proxy(reward: Reward, sample: Sample, picture: Picture) -> float | None:
    """Eqs. 2 and 3 of arXiv 2605.14876: the proxy prompts of the step; half scene, half edit where something was
    edited."""
    scene = reward.scene(picture, sample.scene_prompt) if sample.scene_prompt else None
    if not sample.references:
        return scene
    edit = reward.edit(picture, sample.pictures, sample.edit_prompt)
    known = [value for value in (scene, edit) if value is not None]
    return sum(known) / len(known) if known else None


def last(reward: Reward, sample: Sample, picture: Picture) -> float | None:
    """ "Simple RL": the newest picture and the last text, nothing of the history."""
    return reward.said(picture, sample.words) if sample.references else reward.scene(picture, sample.words)


def final(reward: Reward, sample: Sample, picture: Picture) -> float | None:
    """The whole request, at every step."""
    return reward.scene(picture, sample.brief)


ARMS: dict[str, Score] = {"proxy": proxy, "last": last, "final": final}


class WorldReward:
    """By the exact reader of an embedded world. The score of a scene is the share of its statements that hold, halved
    unless all do, so that the last one counts."""

    def __init__(self, world: World) -> None:
        self.world = world

    def scene(self, picture: Picture, prompt: str) -> float:
        held = self.world.held(prompt, self.world.perceive(picture))
        return sum(held) / len(held) * (1.0 if all(held) else 0.5)

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float:
        world = self.world
        wanted, given = world.parse_instruction(instruction), [world.perceive(each).scene() for each in references]
        cells = frozenset(cell for change in wanted for cell in change.cells)
        expected = given[0]
        for change in wanted:
            expected = world.after(change, expected, given)
        check = world.check_edit(references[0], picture, expected, cells)
        kept = 1 - len(check.moved) / max(1, world.cells - len(cells))
        kept = kept if check.untouched_ok else 0.5 * kept
        return 0.5 * self._carried_out(picture, wanted, given) + 0.5 * kept

    def said(self, picture: Picture, words: str) -> float:
        wanted = self.world.parse_instruction(words)
        return self._carried_out(picture, wanted, [self.world.scene()]) if wanted else self.scene(picture, words)

    def _carried_out(self, picture: Picture, wanted: Sequence[Any], given: Sequence[Any]) -> float:
        seen, done = self.world.perceive(picture), 0
        now = seen.scene()
        for change in wanted:
            if change.kind == "restore":
                there, here = self.world.after(change, given[0], given).at(change.cell), now.at(change.cell)
                good = (there and there.kind) == (here and here.kind)
            else:
                good = self.world.done(change, given[0], now)
            done += good and change.cells.isdisjoint(seen.unclear)
        return done / len(wanted) if wanted else 0.0


class ExactReward:
    """The measure that is never optimised: 1 if everything holds, 0 otherwise."""

    def __init__(self, world: World | None = None) -> None:
        """world: the embedded one if none is given."""
        self.graded = WorldReward(world or world_named())

    def scene(self, picture: Picture, prompt: str) -> float:
        return float(self.graded.scene(picture, prompt) == 1)

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float:
        return float(self.graded.edit(picture, references, instruction) == 1)

    def said(self, picture: Picture, words: str) -> float:
        return float(self.graded.said(picture, words) == 1)


@dataclass
class VlmReward:
    """By decisions: the mean probability of yes over the goals of a prompt, drafted once each; for an edit, done and
    kept."""

    vlm: Vlm
    goals: dict[str, tuple[Goal, ...]] = field(default_factory=dict)
    _drafting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def parallel(self) -> int:
        """Pictures worth judging at the same time: with a server several."""
        return self.vlm.parallel if isinstance(self.vlm, Concurrent) else 1

    def scene(self, picture: Picture, prompt: str) -> float | None:
        with self._drafting:
            if prompt not in self.goals:
                self.goals[prompt] = draft_goals(self.vlm, Brief(prompt)).value or (Goal("g1", prompt),)
        decided = decide(self.vlm, (picture,), [goal_question(goal) for goal in self.goals[prompt]])
        said = [decision.yes for decision in decided.decisions if decision.yes is not None]
        return sum(said) / len(said) if said else None

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float | None:
        check, _, _ = ask_edit(self.vlm, references[0], picture, Action("EDIT", edit_prompt=instruction))
        if check.success is None or check.over_edit is None:
            return None
        return 0.5 * check.success + 0.5 * (1 - check.over_edit)

    def said(self, picture: Picture, words: str) -> float | None:
        text = f"Does the picture agree with these words: {quoted(words)}? Answer yes or no."
        goal = {"id": "g1", "text": words}
        return decide(self.vlm, (picture,), (Question(text, data={"task": "goal", "goal": goal}),)).decisions[0].yes


def named(name: str) -> Reward:
    """Return the reward of a name: an embedded world's exact reader, a models file like clvr.toml whose verifier judges, the
    folder of a vision-language model, or MODULE:NAME of a callable that returns a Reward.

    Raises BadInput for a name that leads nowhere, and as `load_vlm` does.
    """
    if full_name(name) in WORLDS:
        return WorldReward(world_named(name))
    if name.endswith(".toml") or Path(name).is_dir():
        from ..models.registry import load_vlm

        return VlmReward(load_vlm(name, "verifier"))
    try:
        if ":" not in name:
            raise ValueError("no folder is there, and it has no : in it")
        return pkgutil.resolve_name(name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"the reward {name!r} cannot be loaded: {error}; give {', '.join(WORLDS)}, a file like clvr.toml, the folder "
            "of a vision-language model, or MODULE:NAME"
        ) from error
