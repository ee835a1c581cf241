"""Inputs that more than one node has, and the brief made of them."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from ...clvr_core.brief import (
    ASPECTS,
    CONDITIONINGS,
    JUDGINGS,
    MAX_PROMPT,
    STRATEGIES,
    Aspect,
    Brief,
    Budget,
    Conditioning,
    Judging,
    Strategy,
)
from ...clvr_core.checklist import goals_from
from ...clvr_core.errors import BadInput
from ...clvr_core.policy import strategies_text
from ...clvr_core.run.calibration import read_calibration
from ..host.calibrations import calibration_file, calibration_name
from ..host.pictures import as_pictures
from ..host.sockets import ExecutorHandle

if TYPE_CHECKING:
    from ...clvr_core.run.references import Given

MAX_ROUNDS = 50
EXAMPLE = "a large yellow umbrella at the top right, two large pink cats in the bottom row and a small red car at night"
DEFAULT = Budget()


def prompt() -> io.String.Input:
    return io.String.Input(
        "prompt",
        multiline=True,
        default=EXAMPLE,
        dynamic_prompts=True,
        tooltip="What the picture should show. Every statement in it becomes a goal that is checked. {red|blue} takes "
        "one of the two at each run.",
    )


def strategy(advanced: bool = False) -> io.Combo.Input:
    return io.Combo.Input(
        "strategy",
        options=list(STRATEGIES),
        default="clvr",
        advanced=advanced or None,
        tooltip=strategies_text(),
    )


def seed() -> io.Int.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**63 - 1,
        # A seed that changes by itself would begin a new run where the artist goes on with one.
        control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip="Same seed, same pictures.",
    )


def rounds() -> io.Int.Input:
    return io.Int.Input(
        "rounds",
        default=12,
        min=1,
        max=MAX_ROUNDS,
        tooltip="Rounds that draw, at most. With a higher number the run continues where it ended, and nothing is "
        "drawn twice.",
    )


def patience() -> io.Int.Input:
    return io.Int.Input(
        "patience",
        default=4,
        min=1,
        max=MAX_ROUNDS,
        advanced=True,
        tooltip="Rounds without improvement before giving up; higher: later.",
    )


def candidates() -> io.Int.Input:
    return io.Int.Input(
        "candidates",
        default=0,
        min=0,
        max=64,
        advanced=True,
        tooltip="Pictures a round, of which the best is kept; 0: the strategy's own number.",
    )


def evaluations() -> io.Int.Input:
    return io.Int.Input(
        "evaluations",
        default=0,
        min=0,
        max=10**9,
        advanced=True,
        tooltip="Transformer evaluations in all, at most; 0: no limit.",
    )


def judging() -> io.Combo.Input:
    return io.Combo.Input(
        "judging",
        options=list(JUDGINGS),
        default="each",
        optional=True,
        advanced=True,
        tooltip="Where a round has several candidates. each: all are judged goal by goal. pairs: as each, and a tie "
        "is broken by comparing two at a time. set: all are looked at side by side, and only the winner is judged "
        "goal by goal.",
    )


def evidence() -> io.Boolean.Input:
    return io.Boolean.Input(
        "evidence",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Has the judge say in words what it sees where a goal does not hold; one reply more a round.",
    )


def fused() -> io.Boolean.Input:
    return io.Boolean.Input(
        "fused",
        default=False,
        optional=True,
        advanced=True,
        tooltip="For the strategy clvr with one picture a round: verdicts and the next action come in one reply of "
        "the vlm. A call less, but it judges by words in place of probabilities.",
    )


def met() -> io.Float.Input:
    return io.Float.Input(
        "met",
        default=DEFAULT.met,
        min=0.01,
        max=1.0,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip="A goal counts as met from this probability up. Higher: stricter. It must be above unmet.",
    )


def unmet() -> io.Float.Input:
    return io.Float.Input(
        "unmet",
        default=DEFAULT.unmet,
        min=0.0,
        max=0.99,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip="A goal counts as unmet up to this probability; between the two the judge is unsure and may be asked "
        "again.",
    )


def tolerance() -> io.Float.Input:
    return io.Float.Input(
        "tolerance",
        default=1.0,
        min=0.0,
        max=100.0,
        step=0.1,
        optional=True,
        advanced=True,
        tooltip="How much an edit may repaint, move, tint or blur of the rest of the picture before the rest is put back; 1 as "
        "usual, higher: more, 0: any.",
    )


def depth() -> io.Int.Input:
    return io.Int.Input(
        "depth",
        default=-1,
        min=-1,
        max=50,
        optional=True,
        advanced=True,
        tooltip="Edits in a row that may wear a picture before the next one starts from a clean picture again, with all that "
        "was won in one instruction; -1: as Measure Drift found for the executor, else 3; 0: any number.",
    )


def conditioning() -> io.Combo.Input:
    return io.Combo.Input(
        "conditioning",
        options=list(CONDITIONINGS),
        default="proxy",
        optional=True,
        advanced=True,
        tooltip="The text that the executor gets. proxy: the step's own prompt, for usual weights. instruction: your prompt, "
        "then the instruction. summary: your prompt, a summary of each kept step, the instruction. trace: your prompt, all "
        "prompts of the kept steps, the instruction, for weights trained on traces.",
    )


def guided() -> io.Boolean.Input:
    return io.Boolean.Input(
        "guided",
        default=True,
        optional=True,
        advanced=True,
        tooltip="Guides the vlm by states with a number of tries each: what failed is not tried again in other words, stalled "
        "edits and wrong positions are drawn anew, and a look at the whole picture may add goals that the list lacks.",
    )


def rollback() -> io.Boolean.Input:
    return io.Boolean.Input(
        "rollback",
        default=True,
        optional=True,
        advanced=True,
        tooltip="Rolls back a picture that is no better by the goals. Off: each picture replaces the one before, for comparison.",
    )


def conversation() -> io.Boolean.Input:
    return io.Boolean.Input(
        "conversation",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Asks the vlm in one conversation that grows from step to step, in place of a prompt that tells the run anew at "
        "each. A model that keeps what it has read then reads only what is new; it needs room for a picture a step.",
    )


def review_seconds(name: str, default: int) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=default,
        min=0,
        max=86_400,
        optional=default == 0,
        advanced=default == 0,
        tooltip="Seconds that each round waits for your answer in an open tab; 0: you are not asked. Without an open "
        "tab it does not wait.",
    )


def otherwise() -> io.Combo.Input:
    return io.Combo.Input(
        "otherwise",
        options=["go on", "accept", "stop"],
        default="go on",
        advanced=True,
        tooltip="What happens when the time is over and you have said nothing.",
    )


def picture() -> io.Image.Input:
    return io.Image.Input(
        "image",
        optional=True,
        tooltip="A picture to begin from: it is judged first and then edited until the goals hold. Of a batch the "
        "first; one that is larger than the canvas is scaled down. Left open, the run begins from nothing.",
    )


def references() -> io.Image.Input:
    return io.Image.Input(
        "references",
        optional=True,
        tooltip="Pictures of which something is to be kept, a batch in order: each becomes a goal, is shown to the executor with "
        "every action, and is judged beside the result.",
    )


def reference_names() -> io.String.Input:
    return io.String.Input(
        "reference_names",
        default="",
        optional=True,
        advanced=True,
        tooltip="Names of the references in their order, with commas between, each with what is kept of it: ann: face, mug: product, "
        "look: style. Without a word the subject is kept; without names they are called A, B, C.",
    )


def named_references(images: torch.Tensor | None, names: str) -> list[Given]:
    """Return the pictures of this IMAGE with their names. Raises BadInput for names that are too long or do not fit their
    number."""
    if isinstance(error := names_error(names), str):
        raise BadInput(error)
    if images is None:
        return []
    from ...clvr_core.run.references import Given

    pictures = as_pictures(images)
    words = [each.strip() for each in names.split(",") if each.strip()] or list(string.ascii_uppercase[: len(pictures)])
    if len(words) != len(pictures):
        raise BadInput(
            f"reference_names has {len(words)} names, and references {len(pictures)} pictures; write one name for each, with commas"
        )
    found = []
    for word, picture in zip(words, pictures):
        name, _, keeps = (part.strip() for part in word.partition(":"))
        aspect: Aspect | None = next((known for known in ASPECTS if known == (keeps or "subject")), None)
        if aspect is None:
            raise BadInput(f"reference_names keeps {keeps!r:.80} of {name!r:.80}; choose one of {', '.join(ASPECTS)}")
        found.append(Given(name, picture, aspect))
    return found


def brief_of(
    prompt: str,
    executor: ExecutorHandle,
    *,
    goals: str = "",
    strategy: Strategy = "clvr",
    seed: int = 0,
    rounds: int = 12,
    patience: int = 4,
    candidates: int = 0,
    evaluations: int = 0,
    judging: Judging = "each",
    evidence: bool = False,
    fused: bool = False,
    met: float = DEFAULT.met,
    unmet: float = DEFAULT.unmet,
    tolerance: float = 1.0,
    depth: int = -1,
    conditioning: Conditioning = "proxy",
    guided: bool = True,
    rollback: bool = True,
    conversation: bool = False,
) -> Brief:
    """Make the brief from the values of these inputs; 0 means no value. Raises BadInput for a value out of range."""
    executor.check(prompt)
    calibration = read_calibration(calibration_file(), calibration_name(executor))
    budget = Budget(
        rounds=min(rounds, MAX_ROUNDS), patience=patience, evaluations=evaluations or None, met=met, unmet=unmet
    )
    return Brief(
        prompt,
        strategy,
        seed,
        executor.width,
        executor.height,
        calibration.budget(budget, tolerance, None if depth < 0 else depth),
        candidates or None,
        goals=goals_from(goals),
        judging=judging,
        evidence=evidence,
        fused=fused,
        conditioning=conditioning,
        guided=guided,
        rollback=rollback,
        conversation=conversation,
    )


def names_error(names: str | None) -> bool | str:
    """Return what validate_inputs returns of reference_names. None are names that come by a link."""
    if names is not None and len(names) > MAX_PROMPT:
        return f"reference_names has {len(names):,} characters; at most {MAX_PROMPT:,} are read"
    return True


def prompt_error(prompt: str | None) -> bool | str:
    """Return what validate_inputs returns: True or an error sentence. None is a prompt that comes by a link."""
    if prompt is not None and not prompt.strip():
        return "prompt is empty; say in words what the picture should show"
    if prompt is not None and len(prompt) > MAX_PROMPT:
        return f"prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are read"
    return True
