"""A strategy of your own: as clvr, but with three candidates for each edit, and an edit that loses a goal is never kept.

python examples/own_strategy.py out

A strategy is pure: it is given the run so far and answers what to do next. It sees no picture, opens no file, reads no clock.
"""

import sys
from pathlib import Path

from clvr_core.brief import Brief, Budget
from clvr_core.models import load_models
from clvr_core.policy import POLICIES, rules
from clvr_core.policy.base import Acceptance
from clvr_core.policy.clvr import Clvr
from clvr_core.run.session import drive, start
from clvr_core.trajectory import Step, Trajectory


class Careful(Clvr):
    """Whatever is not overridden is as in Clvr: the plan, the next directive, when the run stops."""

    def candidates(self, trajectory: Trajectory) -> int:
        return 1 if trajectory.current_step is None else 3

    def accept(self, trajectory: Trajectory, step: Step) -> Acceptance:
        before = trajectory.current_step
        if before is not None and rules.lost(before.verdicts, step.verdicts):
            # Programs read the code "goals lost", people read the sentence.
            return Acceptance(False, "goals lost", "rolled back: a goal was lost, and this strategy gives none up")
        return super().accept(trajectory, step)


def main(out: Path) -> None:
    # For this process the name "clvr" now means this strategy. docs/how-to/add-a-strategy.md gives it a name of its own.
    POLICIES["clvr"] = Careful()
    models = load_models("embedded")
    prompt = "two red cats, a blue car, a green tree and a yellow umbrella"
    brief = Brief(prompt, "clvr", width=models.width, height=models.height, budget=Budget(rounds=3), final_ab=False)
    trajectory = drive(start(brief, models, out))
    for step in trajectory.steps:
        print(f"{step.action.kind}, {len(step.candidates)} drawn: {step.reason}")
    print(trajectory.outcome.reason)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
