"""An edit that damaged the rest of the picture: repaired, judged again, and the better canvas kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clvr_core.brief import Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, go_on, resume
from tests.fakes import FakeExecutor, grey
from tests.run.script import a_brief, edit, generate, scripted

SIDE = 32
HERE = (0.5, 0.5, 1.0, 1.0)
GOALS = tuple(Goal(f"g{number}", f"thing {number}", check=f"Thing {number}?") for number in (1, 2, 3))


def canvas(value: int, *, damaged: bool = False) -> np.ndarray:
    """A picture whose first pixel names its canvas to the script; the damaged one differs in a stripe at the top."""
    picture = grey(90, SIDE, SIDE)
    picture[SIDE // 2 :, SIDE // 2 :] = 40 + value
    if damaged:
        picture[:8] = 250
    picture[0, 0] = value
    return picture


class Play:
    """A run of one generation and one damaged edit of a region. The repaired canvas begins with the first canvas's
    pixel, so the script's first canvas is asked about again."""

    def __init__(self, repaired: str, **brief) -> None:
        self.script = scripted([generate(), edit(region=list(HERE))], {0: ["muu", repaired], 1: "mmu"})
        self.executor = FakeExecutor([canvas(10), canvas(20, damaged=True)])
        self.brief = a_brief(**{"goals": GOALS, "budget": Budget(rounds=2), **brief, "width": SIDE, "height": SIDE})

    def drive(self, folder=None):
        return drive(Session(self.brief, RunModels(self.script, self.executor), folder))


def test_the_repaired_canvas_takes_the_place_of_a_damaged_one_that_is_no_better():
    step = Play("mmu").drive().steps[-1]
    assert [candidate.nfe for candidate in step.candidates] == [4, 0] and step.chosen == 2
    assert step.accepted and step.edit.change.outside == 0 and step.ruling == "goals gained"
    assert step.candidates[0].seed == step.candidates[1].seed and not step.candidates[1].latent


def test_outside_the_place_and_its_margin_the_repaired_canvas_is_the_one_before():
    play = Play("mmu")
    session = Session(play.brief, RunModels(play.script, play.executor))
    drive(session)
    first, last = session.picture(0), session.picture(2)
    edge = int(SIDE * 0.45)
    assert (last[:edge] == first[:edge]).all() and (last[:, :edge] == first[:, :edge]).all()
    assert (last[-8:, -8:] == 60).all()


def test_a_repair_that_costs_a_goal_is_not_used():
    step = Play("muu").drive().steps[-1]
    assert len(step.candidates) == 2 and step.chosen == 1 and step.accepted and step.edit.change.outside > 0.1


def test_a_repair_without_a_verdict_is_not_used():
    assert Play("eee").drive().steps[-1].chosen == 1


def test_a_repair_may_give_back_a_goal_that_the_damage_cost():
    play = Play("mmu")
    play.script = scripted([generate(), edit(region=list(HERE))], {0: ["muu", "mmu"], 1: "umu"})
    step = play.drive().steps[-1]
    assert step.chosen == 2 and step.accepted


@pytest.mark.parametrize("tolerance", [None, 1000.0])
def test_what_is_tolerated_is_not_repaired(tolerance):
    step = Play("mmu", budget=Budget(rounds=2, tolerance=tolerance)).drive().steps[-1]
    assert len(step.candidates) == 1 and step.edit.change.outside > 0.1


def test_an_edit_that_did_no_damage_is_not_repaired():
    play = Play("mmu")
    play.executor = FakeExecutor([canvas(10), np.where(np.arange(SIDE)[:, None, None] < 16, canvas(10), canvas(20))])
    play.script = scripted([generate(), edit(region=list(HERE))], {0: ["muu", "mmu"], 1: "mmu"})
    assert len(play.drive().steps[-1].candidates) == 1


def test_a_run_cut_at_any_line_ends_with_the_same_canvases(tmp_path):
    whole = Play("mmu")
    expected = whole.drive(RunFolder.create(tmp_path / "whole"))
    lines = (tmp_path / "whole" / "trajectory.jsonl").read_bytes().splitlines(keepends=True)
    events = [line.partition(b'"event":"')[2].partition(b'"')[0] for line in lines]
    assert events.count(b"repaired") == 1 and events.count(b"judged") == 3
    for keep in range(1, len(lines)):
        path = tmp_path / f"cut-{keep}"
        path.mkdir()
        (path / "trajectory.jsonl").write_bytes(b"".join(lines[:keep]))
        for picture in (tmp_path / "whole").glob("canvas-*.png"):
            (path / picture.name).write_bytes(picture.read_bytes())
        again = Play("mmu")
        asked = events[:keep].count(b"judged")
        again.script = scripted(
            [generate(), edit(region=list(HERE))][events[:keep].count(b"action") :],
            {0: ["muu", "mmu"][asked > 0 :], 1: "mmu"},
        )
        again.executor = FakeExecutor([canvas(10), canvas(20, damaged=True)][events[:keep].count(b"drawn") :])
        found = drive(resume(RunFolder.open(path), RunModels(again.script, again.executor)))
        assert [step.chosen for step in found.steps] == [step.chosen for step in expected.steps]
        digests = [[one.sha256 for one in step.candidates] for step in found.steps]
        assert digests == [[one.sha256 for one in step.candidates] for step in expected.steps]


def test_a_budget_with_another_tolerance_is_another_run(tmp_path):
    play = Play("mmu")
    play.drive(RunFolder.create(tmp_path / "run"))
    models = RunModels(play.script, play.executor)
    with pytest.raises(BadInput, match="larger budget"):
        go_on(RunFolder.open(tmp_path / "run"), models, Budget(rounds=4, tolerance=None))


def test_a_record_of_a_repair_into_another_canvas_is_damage(tmp_path):
    play = Play("mmu")
    play.drive(RunFolder.create(tmp_path / "run"))
    journal = tmp_path / "run" / "trajectory.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    place = next(number for number, line in enumerate(lines) if line["event"] == "repaired")
    lines[place]["result"]["candidates"][0]["canvas"] = 7
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines[: place + 1]))
    with pytest.raises(BadInput, match="repairs into the canvases"):
        drive(resume(RunFolder.open(tmp_path / "run"), RunModels(play.script, play.executor)))


def two_places(value: int, *, edited: bool = False) -> np.ndarray:
    """A picture of 64 x 64 whose first pixel names its canvas; the edit changes two places, and tints a stripe at the bottom."""
    # On a texture, so that it is seen that nothing moved.
    picture = np.random.default_rng(0).integers(80, 100, (64, 64, 3), np.uint8)
    if edited:
        picture[8:28, 8:28], picture[8:24, 40:56] = 250, 200
        picture[52:] += 20
    picture[0, 0] = value
    return picture


def moving(repaired: list[str], **action):
    """A run whose one edit moves a thing: it serves goal g2, and the judge sees the repaired canvases so."""
    script = scripted([generate(), edit(goals=["g2"], **action)], {0: ["muu", *repaired], 1: "mmm"})
    executor = FakeExecutor([two_places(10), two_places(20, edited=True)])
    brief = a_brief(goals=GOALS, budget=Budget(rounds=2), width=64, height=64)
    session = Session(brief, RunModels(script, executor))
    return drive(session).steps[-1], session


def test_a_repair_that_cost_the_edit_its_goal_is_made_again_with_both_places_left():
    step, session = moving(["muu", "mmu"])
    assert [candidate.nfe for candidate in step.candidates] == [4, 0, 0] and step.chosen == 3
    before, first, whole = map(session.picture, (0, 2, 3))
    assert (first[12:20, 44:52] == before[12:20, 44:52]).all() and first[16, 16].mean() > 200
    assert whole[16, 48].mean() > 150 and whole[16, 16].mean() > 200
    assert (whole[52:] == before[52:]).all()


def test_a_goal_that_the_edit_did_not_serve_is_no_reason_against_a_repair():
    """The third goal holds on the damaged canvas alone, by what was not to change."""
    step, _ = moving(["mmu"])
    assert step.chosen == 2 and step.accepted


def test_if_both_repairs_cost_the_goal_the_damaged_canvas_stays():
    step, _ = moving(["muu", "muu"])
    assert len(step.candidates) == 3 and step.chosen == 1


def test_what_many_edits_did_together_is_put_back_from_the_clean_canvas():
    """Each edit tints the rest by a little less than is tolerated, both by more."""
    pictures = [canvas(10), canvas(20), canvas(30)]
    for number, picture in enumerate(pictures):
        picture[: SIDE // 2] += np.uint8(8 * number)
        picture[0, 0] = 10 * (number + 1)
    actions = [generate(), edit(region=list(HERE)), edit(region=list(HERE))]
    script = scripted(actions, {0: ["muu", "mmm"], 1: "mmu", 2: "mmm"})
    brief = a_brief(goals=GOALS, budget=Budget(rounds=3, tolerance=1.5), width=SIDE, height=SIDE)
    session = Session(brief, RunModels(script, FakeExecutor(pictures)))
    first, last = drive(session).steps[-2:]
    assert len(first.candidates) == 1 and len(last.candidates) == 2 and last.chosen == 3
    clean, found, edge = session.picture(0), session.picture(3), int(SIDE * 0.45)
    assert (found[:edge] == clean[:edge]).all() and (found[-8:, -8:] != clean[-8:, -8:]).all()
