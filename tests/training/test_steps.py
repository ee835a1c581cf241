"""How PPRL divides the samples that edit."""

from __future__ import annotations

from pathlib import Path

from clvr_core.training.pprl import by_step
from clvr_core.training.samples import Sample
from clvr_core.trajectory import Action


def sample(number: int, edits: bool = True) -> Sample:
    references = (Path("before.png"),) if edits else ()
    return Sample("a cat", (), Action("EDIT"), "a cat", "add a cat", references, None, number)


def test_edits_are_divided_into_first_second_third_and_later_ones():
    parts = by_step([sample(1, edits=False), *(sample(number) for number in (2, 3, 4, 5, 6, 9))])
    assert sorted([one.number for one in part] for part in parts) == [[2], [3], [4], [5, 6, 9]]
