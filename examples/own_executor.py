"""An executor of your own in the loop: this one draws one flat colour, whatever it is asked for.

    python examples/own_executor.py out

Three members make an executor (clvr_core/protocols.py). Others, such as a limited prompt window, are optional.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clvr_core.brief import Brief, Budget
from clvr_core.protocols import Drawing, DrawRequest
from clvr_core.run.session import RunModels, drive, start
from clvr_core.world import world_named


class FlatColours:
    name = "flat-colours"  # becomes part of the record; a run is continued only by models of the same names

    def nfe(self, request: DrawRequest) -> int:
        return 1  # transformer evaluations; the budget is checked with it before anything is drawn

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        return [Drawing(self.paint(request), nfe=self.nfe(request)) for request in requests]

    def paint(self, request: DrawRequest) -> np.ndarray:
        # All randomness comes from the seed of the request: the same seed must give the same picture.
        colour = np.random.default_rng(request.seed).integers(0, 256, 3, dtype=np.uint8)
        return np.full((request.height, request.width, 3), colour, np.uint8)


def main(out: Path) -> None:
    # The embedded controller and judge sees that no flat colour is a red cat, so the budget is spent in vain.
    brief = Brief("a red cat", width=192, height=192, budget=Budget(rounds=3, patience=2))
    trajectory = drive(start(brief, RunModels(world_named().vlm(), FlatColours()), out))
    for step in trajectory.steps:
        print(f"canvas {step.chosen}: {step.action.kind}, {'kept' if step.accepted else 'not kept'}: {step.reason}")
    print(f"{trajectory.outcome.reason}; met: {trajectory.outcome.met}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
