"""Read a run folder: what was asked, what each step did, and what it cost.

python examples/read_a_trajectory.py out
"""

import sys
from pathlib import Path

from clvr_core.run.run_folder import read_trajectory


def main(folder: Path) -> None:
    # Only reads, so a run that is still at work may be looked at. Runs of ComfyUI lie in output/clvr.
    trajectory = read_trajectory(folder)
    print(f"{trajectory.brief.strategy}: {trajectory.brief.prompt}")
    for step in trajectory.steps:
        # Steps are a tree: `parent` is the canvas that a step started from, also if it was rolled back later.
        states = [verdict.state for verdict in step.verdicts]
        fate = "kept" if step.accepted else "not kept"
        print(
            f"{step.index} {step.action.kind:8} {step.parent} -> {step.chosen}  {states.count('met')} of {len(states)} met, {fate}"
        )
        print(f"  {step.reason}")
    cost = trajectory.cost
    print(
        f"{cost.images} pictures, {cost.evaluations} evaluations, {cost.vlm_calls} calls of the vision-language model"
    )
    if trajectory.outcome is None:
        print("still at work, or stopped: go on with `clvr resume`")
    else:
        print(f"canvas {trajectory.outcome.canvas}: {trajectory.outcome.reason}; {trajectory.outcome.choice}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
