"""Trees are written as nested lists: a step's index, then a list for each branch that hangs on it."""

from __future__ import annotations

from dataclasses import replace

from clvr_core.brief import Brief, Goal
from clvr_core.report.tree import Node, all_goals, changes, grow, known
from clvr_core.trajectory import Action, Candidate, Outcome, Step, Trajectory, Verdict


def step(index: int, parent: int | None, accepted: bool = True, draws: bool = True, **states: str) -> Step:
    """Draws the canvas of its own index."""
    return Step(
        index,
        Action(("GENERATE" if parent is None else "EDIT") if draws else "VALIDATE"),
        parent,
        (Candidate(index, f"{index}.png", index, ""),) if draws else (),
        index if draws else None,
        tuple(Verdict(goal, state) for goal, state in states.items()),
        accepted=accepted,
    )


def run(*steps: Step, best: int | None = None) -> Trajectory:
    return Trajectory(Brief("x"), steps=steps, best=best)


def shape(nodes: tuple[Node, ...]) -> list:
    found: list = []
    for node in nodes:
        found.append(node.step.index)
        found.extend(shape(branch) for branch in node.branches)
    return found


def test_a_run_without_rollbacks_is_one_line() -> None:
    tree = grow(run(step(0, None), step(1, 0), step(2, 1)))
    assert shape(tree.line) == [0, 1, 2] and tree.branches == ()


def test_a_rolled_back_branch_hangs_on_the_step_it_started_from() -> None:
    tree = grow(run(step(0, None), step(1, 0), step(2, 1, False), step(3, 2, False), step(4, 1), best=4))
    assert shape(tree.line) == [0, 1, [2, 3], 4]


def test_a_branch_at_the_end_is_no_continuation() -> None:
    assert shape(grow(run(step(0, None), step(1, 0, False), step(2, 0, False))).line) == [0, [1], [2]]


def test_the_line_leads_to_what_was_handed_over() -> None:
    steps = (step(0, None), step(1, 0), step(2, 1), step(3, 0), step(4, 3))
    assert shape(grow(run(*steps, best=2)).line) == [0, [3, 4], 1, 2]
    assert shape(grow(run(*steps, best=4)).line) == [0, [1, 2], 3, 4]
    outcome = Outcome("budget", 2, False)
    assert shape(grow(replace(run(*steps, best=4), outcome=outcome)).line) == [0, [3, 4], 1, 2]


def test_a_step_that_only_looked_stands_in_the_line() -> None:
    tree = grow(run(step(0, None), step(1, 0, draws=False), step(2, 0, False), step(3, 0), step(4, 3, draws=False), best=3))
    assert shape(tree.line) == [0, [2], 1, 3, 4]


def test_first_tries_that_were_not_kept_hang_on_the_start() -> None:
    tree = grow(run(step(0, None, False), step(1, None), step(2, None, False), best=1))
    assert shape(tree.line) == [1] and [shape(branch) for branch in tree.branches] == [[0], [2]]


def test_a_parent_may_be_a_candidate_that_was_not_chosen() -> None:
    first = replace(step(0, None), candidates=tuple(Candidate(canvas, "", 0, "") for canvas in (0, 1, 2)))
    assert shape(grow(run(first, replace(step(3, 2), index=1))).line) == [0, 1]


def test_parents_that_make_no_tree_count_as_none() -> None:
    tree = grow(run(step(0, 1), step(1, 0), step(2, 2), step(3, 77)))
    every = sorted(canvas for line in (tree.line, *tree.branches) for canvas in _flat(shape(line)))
    assert every == [0, 1, 2, 3]


def test_however_deep_no_step_is_lost() -> None:
    steps = [step(0, None)]
    for index in range(1, 601):
        steps.append(step(index, index - 1 - (index % 2 == 0), accepted=index % 2 == 1))
    tree = grow(run(*steps))
    assert sorted(_flat(shape(tree.line))) == list(range(601))
    zigzag = [step(0, None)] + [step(index, (index - 1) // 2) for index in range(1, 1200)]
    assert sorted(_flat(shape(grow(run(*zigzag)).line))) == list(range(1200))


def _flat(nested: list) -> list[int]:
    return [inner for item in nested for inner in (_flat(item) if isinstance(item, list) else [item])]


def test_changes_are_against_the_canvas_it_started_from() -> None:
    trajectory = run(
        step(0, None, a="met", b="unmet", c="met", d="met"),
        step(1, 0, False, a="unmet", b="met", c="error", d="pending"),
        step(2, 0, a="met", b="met", c="met", d="met"),
    )
    assert changes(trajectory, 0) == (frozenset(), frozenset())
    assert changes(trajectory, 1) == ({"b"}, {"a"})
    assert changes(trajectory, 2) == ({"b"}, frozenset())


def test_a_step_that_only_looked_breaks_nothing() -> None:
    look = replace(step(1, 0, draws=False, a="unmet"), chosen=0)
    trajectory = run(step(0, None, a="met"), look)
    assert changes(trajectory, 1) == (frozenset(), frozenset())
    assert known(trajectory.steps, 0)["a"].state == "unmet"


def test_goals_that_only_a_verdict_names_come_last() -> None:
    trajectory = replace(run(step(0, None, b="met", a="met")), goals=(Goal("a", "first"),))
    assert [goal.id for goal in all_goals(trajectory)] == ["a", "b"]
