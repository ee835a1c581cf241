"""Paint a brief with the embedded models and say goal by goal what came out.

python examples/generate.py "two red cats and a blue car" out
"""

import sys
from pathlib import Path

from clvr_core.brief import Brief, Budget
from clvr_core.models import load_models
from clvr_core.run.session import drive, start


def main(prompt: str, out: Path) -> None:
    # "embedded" is the embedded world. A file clvr.toml in its place loads real models: see docs/models.md.
    models = load_models("embedded")
    # The canvas must have the size that the executor was trained for.
    brief = Brief(
        prompt, strategy="clvr", seed=1, width=models.width, height=models.height, budget=Budget(rounds=4), guided=True
    )
    # A new run needs an empty folder: everything is written there before the next step begins, so a kill loses nothing.
    session = start(brief, models, out)
    trajectory = drive(session)

    best = trajectory.best_step
    for verdict in best.verdicts:
        print(f"{verdict.state:8} {trajectory.goal(verdict.goal).text}")
    print(f"{trajectory.outcome.reason}; {trajectory.cost.evaluations} evaluations; {out / 'best.png'}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
