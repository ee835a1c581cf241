"""The loop as an environment of TRL's GRPOTrainer (1.16, `environment_factory`), for models too large for `vlm_grpo.py`.

The model calls the tools `generate` and `edit`, as the data sets of `clvr synthesize` teach it (`trl.jsonl`), and writes DONE
without a call. Each call is one round of the loop: drawn, judged goal by goal, kept or rolled back; what came of it goes back
with the picture. TRL masks out what a tool replies, pictures included.

    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model, args=GRPOConfig(loss_type="grpo", max_completion_length=8192, ...),
        train_dataset=briefs_for(where, 500), environment_factory=environment(where),
    )

The tools of a batch are called one after the other, so that pictures are drawn one by one. TRL's `rollout_func` would draw
them together, and loses the pictures on the way to the loss.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from ..brief import Brief, Budget
from ..controller import draft_goals
from ..errors import BadInput
from ..run.loop import Call, ChooseAction, Chosen, Result
from ..run.session import RunModels, Session
from ..synthesis.data import SYSTEM
from ..trajectory import Action, ActionKind, states
from .grpo import rewards
from .vlm_grpo import GrpoConfig
from .vlm_setup import RolloutSetup

Blocks = list[dict[str, Any]]
"""Content of a message: blocks of text and pictures."""


class Planner:
    """One rollout. Every public method but `reset` and `get_reward` is a tool of the model."""

    def __init__(self, where: RolloutSetup, config: GrpoConfig) -> None:
        self._where, self._config = where, config
        self._session: Session | None = None
        self._call: Call | None = None

    def reset(self, brief: str, seed: int = 0, **row: Any) -> None:
        """Begin a run. brief: words of the request. seed: of its pictures. Further columns of the row are passed over."""
        config, where = self._config, self._where
        budget = Budget(config.rounds, patience=config.patience)
        asked = Brief(
            brief,
            config.strategy,
            seed,
            where.width,
            where.height,
            budget,
            candidates=config.candidates,
            final_ab=False,
        )
        asked = replace(asked, goals=draft_goals(where.verifier, asked).value or ())
        # The judge stands for the controller, which is the model that calls the tools and is never asked by the loop.
        self._session = Session(asked, RunModels(where.verifier, where.executor))
        self._go_on(None)

    def generate(self, prompt: str) -> Blocks:
        """
        Draw a new picture from nothing.

        Args:
            prompt: Everything that the picture should show, complete in itself.

        Returns:
            The canvas that was drawn, its number, and what holds on it.
        """
        return self._act(Action("GENERATE", scene_prompt=prompt))

    def edit(self, prompt: str, ref_img_list: list[int]) -> Blocks:
        """
        Change a canvas that was drawn before.

        Args:
            prompt: The instruction: what to change, where, and what must stay as it is.
            ref_img_list: Numbers of canvases: first the one to change, then any from which something is taken.

        Returns:
            The canvas that was drawn, its number, and what holds on it.
        """
        return self._act(Action("EDIT", edit_prompt=prompt, references=tuple(int(each) - 1 for each in ref_img_list)))

    def get_reward(self) -> float:
        """Return most x (share of the brief that is met on the best canvas) - cost x edits, as `vlm_grpo.py`."""
        assert self._session is not None, "TRL resets an environment before it is scored"
        run, config = self._session.trajectory, self._config
        drawn = sum(step.action.draws for step in run.steps)
        aligned = 0.0
        if run.best is not None:
            aligned = self._where.reward.scene(self._session.picture(run.best), run.brief.prompt) or 0.0
        return float(rewards([aligned], [max(0, drawn - 1)], most=config.most, cost=config.cost)[0])

    def _act(self, action: Action) -> Blocks:
        """Carry out one round. Raises BadInput for an action that cannot be carried out now, which TRL tells the model."""
        session, call = self._session, self._call
        assert session is not None, "TRL resets an environment before its tools are called"
        if not isinstance(call, ChooseAction):
            raise BadInput("The run has ended; write DONE.")
        _require(action.kind, call.directive.allowed)
        offered = session.trajectory.offered
        if action.kind == "EDIT" and (not action.references or set(action.references) - set(offered)):
            numbers = ", ".join(str(canvas + 1) for canvas in offered) or "none"
            raise BadInput(f"ref_img_list may name the canvases {numbers}, at least one.")
        step = len(session.trajectory.steps)
        chosen = Chosen(replace(action, goals=call.directive.focus))
        session.note(call, chosen)
        self._go_on(chosen)
        return self._told(step)

    def _go_on(self, result: Result | None) -> None:
        """Lead the run to the next choice of an action, or to its end."""
        session = self._session
        assert session is not None
        call = session.advance(result)
        while call is not None and not isinstance(call, ChooseAction):
            result = session.perform(call)
            session.note(call, result)
            call = session.advance(result)
        self._call = call

    def _told(self, index: int) -> Blocks:
        session = self._session
        assert session is not None
        run = session.trajectory
        step = run.steps[index] if index < len(run.steps) else None
        if step is None or step.chosen is None:
            return [{"type": "text", "text": "The budget is spent; write DONE."}]
        held = states(step.verdicts)
        verdicts = "\n".join(f"- {goal.text}: {held.get(goal.id, 'not judged')}" for goal in run.goals)
        current = "" if run.current is None else f" Go on from canvas {run.current + 1}."
        end = " Every goal holds; write DONE." if run.outcome and run.outcome.met else ""
        words = f"canvas {step.chosen + 1}: {step.reason}.{current}{end}\n{verdicts}"
        picture = Image.fromarray(session.picture(step.chosen))
        return [{"type": "image", "image": picture}, {"type": "text", "text": words}]


def _require(kind: ActionKind, allowed: Sequence[ActionKind]) -> None:
    names = {"GENERATE": "generate", "EDIT": "edit"}
    if kind not in allowed:
        ways = " or ".join(names[each] for each in allowed if each in names) or "none"
        raise BadInput(f"{names[kind]} cannot be called now; call {ways}.")


def environment(where: RolloutSetup, config: GrpoConfig | None = None) -> Callable[[], Planner]:
    """Return the factory that TRL calls for each rollout of a batch. config: strategy, budget and reward are read."""
    return lambda: Planner(where, config or GrpoConfig())


def briefs_for(where: RolloutSetup, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows for a data set of TRL: prompt, brief and seed. `datasets.Dataset.from_list` takes them."""
    rng, rows = random.Random(f"{seed}/trl"), []
    for _ in range(count):
        words = where.brief(rng)
        prompt = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": words}]
        rows.append({"prompt": prompt, "brief": words, "seed": rng.randrange(2**31)})
    return rows
