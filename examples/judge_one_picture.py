"""Judge one picture against a list of statements, without any loop.

python examples/judge_one_picture.py picture.png "a red cat" "a blue car at the top left"
"""

import sys
from pathlib import Path

from clvr_core.brief import Goal
from clvr_core.storage.png import read_png
from clvr_core.verifier import judge
from clvr_core.world import world_named


def main(path: Path, statements: list[str]) -> None:
    # A goal is a statement with a question whose answer "yes" means that it is met.
    goals = [
        Goal(f"g{number}", text, check=f"Does the picture show {text}?") for number, text in enumerate(statements, 1)
    ]
    picture, _ = read_png(path)  # uint8, height x width x 3, and the metadata of the PNG
    # Any object with the two methods of Vlm in clvr_core/protocols.py can judge; this one knows the embedded world only.
    judged = judge(world_named().vlm(), picture, goals)
    for goal, verdict in zip(goals, judged.verdicts, strict=True):
        # The probability of "yes" becomes a state by two thresholds; the confidence is that of the answer given.
        print(f"{verdict.state:8} {verdict.confidence}  {goal.text}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
