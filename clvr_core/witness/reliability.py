"""How often each witness was right: measured on pictures of which a person said what holds, and kept in one small file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import BadInput
from ..records import from_json
from ..storage.atomic import write_bytes, writing

FILE = "witnesses.json"
LEAST = 10
"""Cases of one answer from which up a share is told of it."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Cases in which a witness said yes or no, by whether that was right."""

    yes_right: int = 0
    yes_wrong: int = 0
    no_right: int = 0
    no_wrong: int = 0

    def of(self, says: Literal["yes", "no"]) -> float | None:
        """The share of cases in which this answer was right, 0..1, drawn towards a half as if one more case had been
        right and one more wrong (Laplace); None for fewer than LEAST cases."""
        right, wrong = (self.yes_right, self.yes_wrong) if says == "yes" else (self.no_right, self.no_wrong)
        return (right + 1) / (right + wrong + 2) if right + wrong >= LEAST else None

    def with_case(self, says: Literal["yes", "no"], holds: bool) -> Reliability:
        field = f"{says}_{'right' if (says == 'yes') == holds else 'wrong'}"
        return replace(self, **{field: getattr(self, field) + 1})


def read_reliability(file: Path) -> dict[str, Reliability]:
    """Return name of a witness -> what was measured of it; nothing if nothing was measured.

    Raises BadInput for a file that cannot be read.
    """
    try:
        kept = json.loads(file.read_text("utf-8"))
        if not isinstance(kept, dict):
            raise ValueError("it is no object of witnesses")
        return {name: from_json(Reliability, each) for name, each in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} cannot be read ({error}); delete it, and measure the witnesses again") from error


def write_reliability(file: Path, found: Mapping[str, Reliability]) -> None:
    """Keep what was found beside what the file has of other witnesses. Raises BadInput if it cannot be read, CannotWrite
    if it cannot be written."""
    kept = {name: asdict(each) for name, each in {**read_reliability(file), **found}.items()}
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, (json.dumps(kept, indent=1) + "\n").encode())
