"""Rewards for a drawn step: the shapes verifier, a vision-language model by decisions, or any function.

A reward answers three questions; `ARMS` says which of them each arm asks, and with which words.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..brief import Brief, Goal
from ..controller import draft_goals
from ..errors import BadInput
from ..protocols import Concurrent, Picture, Question, Vlm
from ..shapes.grammar import parse, parse_instruction
from ..shapes.judge import done as carried_out
from ..shapes.perceive import Perception, check_edit, perceive
from ..shapes.proxies import after
from ..shapes.scene import CELLS, Scene
from ..trajectory import Action
from ..verifier import check_edit as ask_edit
from ..verifier.prompts import goal_question, quoted
from ..vlm.decisions import decide
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


class ShapesReward:
    """By the exact perceiver. The score of a scene is the share of its statements that hold, halved unless all do, so
    that the last one counts."""

    def scene(self, picture: Picture, prompt: str) -> float:
        spec, seen = parse(prompt), perceive(picture)
        held = [statement.holds(seen.things) for statement in spec.statements]
        held[0] = held[0] and seen.clean
        return sum(held) / len(held) * (1.0 if all(held) else 0.5)

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float:
        wanted, given = parse_instruction(instruction), [perceive(reference).scene() for reference in references]
        cells = frozenset(cell for change in wanted for cell in (change.cell, change.to) if cell is not None)
        expected = given[0]
        for change in wanted:
            expected = after(change, expected, given)
        check = check_edit(references[0], picture, expected, cells)
        kept = 1 - len(check.moved) / max(1, len(CELLS) - len(cells))
        return 0.5 * self._carried_out(perceive(picture), wanted, given) + 0.5 * (kept if kept == 1 else 0.5 * kept)

    def said(self, picture: Picture, words: str) -> float:
        wanted = parse_instruction(words)
        return self._carried_out(perceive(picture), wanted, [Scene()]) if wanted else self.scene(picture, words)

    def _carried_out(self, seen: Perception, wanted, given: Sequence[Scene]) -> float:
        dirty, now, done = {cell for junk in seen.junk for cell in junk.cells}, seen.scene(), 0
        for change in wanted:
            cells = {change.cell, change.to} - {None}
            if change.kind == "restore":
                there, here = after(change, given[0], given).at(change.cell), now.at(change.cell)
                good = (there and there.kind) == (here and here.kind)
            else:
                good = carried_out(change, given[0], now)
            done += good and not cells & dirty
        return done / len(wanted) if wanted else 0.0


class ExactReward:
    """The measure that is never optimised: 1 if everything holds, 0 otherwise."""

    def __init__(self) -> None:
        self.shapes = ShapesReward()

    def scene(self, picture: Picture, prompt: str) -> float:
        seen = perceive(picture)
        return float(seen.clean and parse(prompt).holds(seen.things))

    def edit(self, picture: Picture, references: Sequence[Picture], instruction: str) -> float:
        return float(self.shapes.edit(picture, references, instruction) == 1)

    def said(self, picture: Picture, words: str) -> float:
        return float(self.shapes.said(picture, words) == 1)


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
    """Return the reward of a name: `shapes`, a models file like clvr.toml whose verifier judges, or MODULE:NAME of a
    callable that returns a Reward.

    Raises BadInput for a name that leads nowhere.
    """
    if name == "shapes":
        return ShapesReward()
    if name.endswith(".toml"):
        from ..models.registry import load_models

        models = load_models(name)
        return VlmReward(models.judge or models.vlm)
    try:
        if ":" not in name:
            raise ValueError("there is no : in it")
        return pkgutil.resolve_name(name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"the reward {name!r} cannot be loaded: {error}; give shapes, a file like clvr.toml, or MODULE:NAME"
        ) from error
