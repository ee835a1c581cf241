"""The inputs that more than one node asks of the artist."""

from __future__ import annotations

from comfy_api.latest import io

from ..clvr_core.brief import MAX_PROMPT, STRATEGIES
from .running import MAX_ROUNDS

EXAMPLE = "a large yellow circle at the top right, two large green triangles in the bottom row and a small red square"


def prompt() -> io.String.Input:
    return io.String.Input(
        "prompt",
        multiline=True,
        default=EXAMPLE,
        tooltip="What the picture should show. Every statement in it becomes a goal that is checked.",
    )


def strategy() -> io.Combo.Input:
    return io.Combo.Input(
        "strategy",
        options=list(STRATEGIES),
        default="clvr",
        tooltip="clvr: step by step with roll-back. director: one goal after another over a small grid. strokes: plan, sketch, "
        "inspect, refine. oneshot and best-of-n: without a loop, for comparison.",
    )


def seed() -> io.Int.Input:
    return io.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate=True, tooltip="Same seed, same pictures.")


def rounds() -> io.Int.Input:
    return io.Int.Input(
        "rounds",
        default=12,
        min=1,
        max=MAX_ROUNDS,
        tooltip="Rounds that draw, at most. Raised, the run goes on where it was, and nothing is drawn twice.",
    )


def patience() -> io.Int.Input:
    return io.Int.Input(
        "patience", default=4, min=1, max=MAX_ROUNDS, advanced=True, tooltip="Rounds without improvement before giving up; higher: later."
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


def review_seconds(name: str, default: int) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=default,
        min=0,
        max=86_400,
        optional=default == 0,
        advanced=default == 0,
        tooltip="Seconds that each round waits for your word in an open tab; 0: it does not ask. Without a tab nothing waits.",
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
        tooltip="A picture to begin from: it is judged first and then edited until the goals hold. Of a batch the first; one that is "
        "larger than the canvas is scaled down. Left open, the run begins from nothing.",
    )


def refused(prompt: str | None) -> bool | str:
    """What validate_inputs says of a prompt: True, or what is wrong with it; None is one that a link will bring."""
    if prompt is not None and not prompt.strip():
        return "prompt is empty; say in words what the picture should show"
    if prompt is not None and len(prompt) > MAX_PROMPT:
        return f"prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are read"
    return True
