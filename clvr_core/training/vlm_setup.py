"""What a controller's rollouts run with: who draws, who judges, who rewards, and the briefs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..models.registry import SIMULATED, load_models
from ..protocols import Executor, Picture, Vlm
from ..stickers.codes import codes
from ..stickers.grammar import NotInGrammar
from ..stickers.judge import StickersVlm
from ..stickers.render import render
from ..stickers.scene import CANVAS, Scene
from ..stickers.simulated import NFE, Rates, SimulatedExecutor, perceive_rendered, rendered
from .rewards import Reward, VlmReward, named
from .vlm_control import some_brief


@dataclass(frozen=True)
class RolloutSetup:
    """What the rollouts run with.

    executor, verifier: of the loop.
    reward: judges the best canvas of a rollout by the brief, apart from the loop's verifier.
    brief: returns the words of another brief. width, height: of the canvas.
    name: of all of it, for the record.
    """

    executor: Executor
    verifier: Vlm
    reward: Reward
    brief: Callable[[random.Random], str]
    width: int
    height: int
    name: str


def setup_of(
    models: str, reward: str | None, prompts: Sequence[str], errors: float = 0.0, seed: int = 0
) -> RolloutSetup:
    """Return what rollouts run with: the models of this name, or of the sticker world with an executor that is simulated.

    reward: as `rewards.named` takes it; None for the decisions of the verifier, in the simulated world of an exact one.
    prompts: the briefs; none for random ones, which the simulated world alone has.
    errors: rate, 0 to 1, at which the verifier of the simulated world errs, always alike about the same things.

    Raises BadInput for models without prompts, and for a name that leads nowhere.
    """
    ways = f"{models}, reward {reward or 'by the verifier'}"
    if models != SIMULATED:
        if not prompts:
            raise BadInput(
                f"--prompts is missing: only --models {SIMULATED} has briefs of its own; give a file of them"
            )
        loaded = load_models(models)
        if loaded.check:
            for prompt in prompts:
                loaded.check(prompt)
        judge = named(reward) if reward else VlmReward(loaded.verifier)
        return RolloutSetup(
            loaded.executor, loaded.verifier, judge, lambda rng: rng.choice(prompts), loaded.width, loaded.height, ways
        )
    draw = painter()
    executor = SimulatedExecutor(Rates(), NFE["merged"], lambda scene: rendered(scene, draw), perceive_rendered)
    verifier = StickersVlm(errors, seed, "correlated", read=perceive_rendered)
    judge = named(reward) if reward else VlmReward(StickersVlm(read=perceive_rendered))
    brief = (lambda rng: rng.choice(prompts)) if prompts else random_prompt
    for prompt in prompts:
        verifier.require_readable(prompt)
    return RolloutSetup(executor, verifier, judge, brief, CANVAS, CANVAS, f"{ways}, errors {errors:g}")


def random_prompt(rng: random.Random) -> str:
    """Return a brief of the sticker world, mostly of three to six things."""
    while True:
        try:
            return some_brief(rng)[0].prompt
        except NotInGrammar:
            continue


def painter() -> Callable[[Scene], Picture]:
    """Return what draws a scene: from the pictures of the stickers, or from the file of them that CLVR_CUTOUTS names."""
    if not (cutouts := os.environ.get("CLVR_CUTOUTS")):
        return render
    from .sticker_batches import BatchRenderer, load_cutouts, to_uint8

    batches = BatchRenderer("cpu", load_cutouts(Path(cutouts)))

    def draw(scene: Scene) -> Picture:
        return np.ascontiguousarray(to_uint8(batches(*codes([scene])))[0])

    return draw
