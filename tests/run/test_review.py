"""The artist between two rounds: what is said is heeded, written down, and not asked again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clvr_core.brief import Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.policy import rules
from clvr_core.policy.remarks import BY_THE_ARTIST, apply_remark, is_wish
from clvr_core.run.run_folder import JOURNAL, RunFolder, trajectory_from
from clvr_core.run.session import RunModels, Session, drive, go_on, resume
from clvr_core.trajectory import Remark, Trajectory, timeless
from tests.fakes import FakeExecutor, goals, step, trajectory
from tests.run.script import VALIDATE, a_brief, asked, edit, generate, scripted, seen
from tests.stickers.oracle import SIZE, OracleExecutor, load_vlm


class Artist:
    """Says in turn what is in the script, then `go on`, and remembers what it was shown."""

    def __init__(self, *script: Remark | tuple[Remark, np.ndarray]) -> None:
        self.script, self.shown = list(script), []

    def __call__(self, told):
        self.shown.append(told)
        said = self.script.pop(0) if self.script else Remark(0)
        return said if isinstance(said, tuple) else (said, None)


def play(vlm, artist=None, folder=None, executor=None, **brief):
    return drive(Session(a_brief(**brief), RunModels(vlm, executor or FakeExecutor()), folder, reviewer=artist))


def test_is_asked_after_each_step_and_going_on_changes_nothing():
    script = {"actions": [generate(), edit(), edit()], "canvases": {0: "muu", 1: "mmu", 2: "mmm"}}
    artist = Artist()
    left, right = play(scripted(**script)), play(scripted(**script), artist)
    assert [len(told.steps) for told in artist.shown] == [1, 2, 3]
    assert (timeless(left).steps, left.outcome) == (timeless(right).steps, right.outcome)
    assert right.outcome.met and [remark.after for remark in right.remarks] == [0, 1, 2]


def test_nobody_is_asked_where_nobody_is_there():
    assert play(scripted([generate()], {0: "mmm"})).remarks == ()


def test_accepting_ends_with_the_current_canvas_without_a_comparison():
    vlm = scripted([generate(), edit()], {0: "muu", 1: "mmu"}, prefers=0)
    end = play(vlm, Artist(Remark(0), Remark(0, "accept")), final_ab=True)
    assert (end.outcome.reason, end.outcome.canvas, end.outcome.choice) == (
        "the artist accepted the picture",
        1,
        "the artist's choice",
    )
    assert not end.outcome.met and not asked(vlm, "compare")


def test_accepting_an_earlier_canvas_hands_that_over_against_the_judges_word():
    end = play(scripted([generate(), edit()], {0: "muu", 1: "mmu"}), Artist(Remark(0), Remark(0, "accept", back_to=0)))
    assert end.outcome.canvas == 0


def test_stopping_ends_with_the_best_by_the_judges_word():
    end = play(scripted([generate(), edit()], {0: "mmu", 1: "muu"}), Artist(Remark(0), Remark(0, "stop")))
    assert (end.outcome.reason, end.outcome.canvas) == ("the artist stopped the run", 0)


def test_words_become_a_goal_that_is_judged_and_reach_the_controller():
    vlm = scripted([generate(), edit("warm it up")], {0: "mmmu", 1: "mmmm"})
    told = []

    def decisions(images, questions, inner=vlm._decisions):
        told.extend(question.data["goal"]["text"] for question in questions if "goal" in question.data)
        return [0.9 for _ in questions] if questions[0].data["task"] == "goal" else inner(images, questions)

    vlm._decisions = decisions
    end = play(vlm, Artist(Remark(0, words="warmer light")))
    assert [goal.text for goal in end.goals][-1] == "warmer light" and end.goals[-1].id == "a1"
    assert "warmer light" in asked(vlm, "action")[-1].text and "The artist says" in asked(vlm, "action")[-1].text
    assert told.count("warmer light") == 1 and end.outcome.met and end.outcome.canvas == 1


def test_a_wish_keeps_the_loop_going_though_every_goal_was_met():
    end = play(
        scripted([generate(), edit()], {0: "mmm", 1: "mmm"}),
        Artist(Remark(0, words="a dog too")),
        budget=Budget(rounds=2),
    )
    assert len(end.steps) == 2


def test_a_wish_that_the_canvas_grants_already_is_found_by_looking_again():
    vlm = scripted([generate(), VALIDATE], {0: "mmm"})
    vlm._decisions = lambda images, questions: [0.9 for _ in questions]
    end = play(vlm, Artist(Remark(0, words="warmer light")))
    assert [step.action.kind for step in end.steps] == ["GENERATE", "VALIDATE"] and end.outcome.met
    assert end.steps[0].verdict("a1").state == "met"


def test_a_corrected_verdict_is_the_artists_and_counts():
    end = play(scripted([generate()], {0: "mmu"}), Artist(Remark(0, corrected={"g3": "met"})))
    assert end.outcome.met and end.steps[0].verdict("g3").evidence == BY_THE_ARTIST and end.steps[0].score == 1.0


def test_a_goal_that_is_not_wanted_is_judged_no_more():
    vlm = scripted([generate(), edit()], {0: "muu", 1: "mmm"})
    end = play(vlm, Artist(Remark(0, dropped=("g3",))))
    assert [goal.id for goal in end.goals] == ["g1", "g2"] and end.outcome.met
    assert [question.data["goal"]["id"] for question in asked(vlm, "goal")[-1].questions] == ["g1", "g2"]
    assert all(step.verdict("g3") is None for step in end.steps)


def test_going_back_edits_the_canvas_that_was_named():
    executor = FakeExecutor()
    vlm = scripted([generate(), edit(), edit("add a moon")], {0: "muu", 1: "mmu", 2: "mmm"})
    play(vlm, Artist(Remark(0), Remark(0, back_to=0)), executor=executor)
    assert seen(executor) == [(), (0,), (0,)]


def test_a_candidate_that_the_artist_picks_is_judged_and_gone_on_with(tmp_path):
    """Of two candidates the judge prefers the first; the artist takes the second, which then is the one to edit."""
    script = {"canvases": {0: "mmu", 1: "muu", 2: "mmm", 3: "mmm"}}
    executor, folder = FakeExecutor(), RunFolder.create(tmp_path / "run")
    artist = Artist(Remark(0, back_to=1, corrected={"g3": "met"}))
    end = play(scripted([generate(), edit()], **script), artist, folder, executor, candidates=2)
    assert artist.shown[0].steps[0].chosen == 0 and seen(executor)[2:] == [(1,), (1,)]
    first = end.steps[0]
    assert (first.chosen, first.ruling, first.accepted, first.score) == (1, "picked by the artist", True, first.score)
    assert [verdict.state for verdict in first.verdicts] == ["met", "unmet", "met"]
    assert first.verdicts[2].evidence == BY_THE_ARTIST and end.outcome.met
    assert trajectory_from(folder.lines) == end
    whole = (folder.path / JOURNAL).read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in range(1, len(lines)):
        (folder.path / JOURNAL).write_bytes(b"".join(lines[:kept]))
        events = [json.loads(line)["event"] for line in lines[:kept]]
        vlm = scripted([generate(), edit()][events.count("action") :], **script)
        again = FakeExecutor()
        again.requests += [None] * 2 * events.count("drawn")
        artist = Artist(*[Remark(0, back_to=1, corrected={"g3": "met"})][events.count("review") :])
        assert (
            drive(resume(RunFolder.open(folder.path), RunModels(vlm, again), None, reviewer=artist)).outcome
            == end.outcome
        )


def test_accepting_a_candidate_that_was_not_chosen_hands_it_over():
    vlm = scripted([generate()], {0: "mmu", 1: "muu"})
    end = play(vlm, Artist(Remark(0, "accept", back_to=1)), candidates=2)
    assert (end.outcome.canvas, end.outcome.met, len(end.steps)) == (1, False, 1)


def test_a_painted_mask_reaches_the_next_edit_only(tmp_path):
    executor, mask = FakeExecutor(), np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    vlm = scripted([generate(), edit(), edit()], {0: "muu", 1: "mmu", 2: "mmm"})
    play(vlm, Artist((Remark(0), mask)), RunFolder.create(tmp_path / "run"), executor)
    first, second, third = executor.requests
    assert first.mask is None and np.array_equal(second.mask, mask) and third.mask is None


def test_a_mask_of_another_size_is_refused_before_it_is_written(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    with pytest.raises(BadInput, match=r"the mask is \(4, 4\)"):
        play(scripted([generate()], {0: "muu"}), Artist((Remark(0), np.zeros((4, 4), np.uint8))), folder)
    assert not list(folder.path.glob("mask-*")) and folder.lines[-1]["event"] == "step"


def test_steering_restarts_the_patience():
    vlm = scripted([generate(), edit(), edit(), edit(), edit()], dict.fromkeys(range(5), "muu"))
    end = play(
        vlm, Artist(Remark(0), Remark(0), Remark(0, corrected={"g2": "unmet"})), budget=Budget(rounds=9, patience=2)
    )
    assert len(end.steps) == 5 and end.outcome.reason == "no improvement in 2 rounds"


class TestTheRecord:
    def run(self, tmp_path, *script):
        folder = RunFolder.create(tmp_path / "run")
        mask = np.full((8, 8), 255, np.uint8)
        vlm = scripted([generate(), edit(), edit()], {0: "muuu", 1: "mmuu", 2: "mmmm"}, goals=4)
        return folder, play(
            vlm, Artist(*(script or (Remark(0, dropped=("g4",)), (Remark(0, corrected={"g2": "met"}), mask)))), folder
        )

    def test_tells_the_same_trajectory(self, tmp_path):
        folder, end = self.run(tmp_path)
        assert trajectory_from(folder.lines) == end and len(end.remarks) == 3

    def test_is_gone_on_with_from_every_line_to_the_same_bytes_and_nobody_is_asked_twice(self, tmp_path):
        folder, end = self.run(tmp_path)
        whole, best = (folder.path / JOURNAL).read_bytes(), (folder.path / "best.png").read_bytes()
        lines = whole.splitlines(keepends=True)
        for kept in range(1, len(lines)):
            (folder.path / JOURNAL).write_bytes(b"".join(lines[:kept]))
            done = sum(json.loads(line)["event"] == "review" for line in lines[:kept])
            script = [
                Remark(0, dropped=("g4",)),
                (Remark(0, corrected={"g2": "met"}), np.full((8, 8), 255, np.uint8)),
                Remark(0),
            ][done:]
            drawn = sum(json.loads(line)["event"] == "drawn" for line in lines[:kept])
            chosen = sum(json.loads(line)["event"] == "action" for line in lines[:kept])
            vlm = scripted([generate(), edit(), edit()][chosen:], {0: "muuu", 1: "mmuu", 2: "mmmm"}, goals=4)
            executor, artist = FakeExecutor(), Artist(*script)
            executor.requests += [None] * drawn
            again = drive(resume(RunFolder.open(folder.path), RunModels(vlm, executor), None, reviewer=artist))
            assert again.outcome == end.outcome and again.remarks == end.remarks and len(artist.shown) == 3 - done
            assert (folder.path / "best.png").read_bytes() == best

    def test_stands_under_a_larger_budget(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run")
        script = {"canvases": {0: "muu", 1: "mmu", 2: "mmm"}}
        play(
            scripted([generate(), edit()], **script),
            Artist(Remark(0, corrected={"g2": "unmet"})),
            folder,
            budget=Budget(rounds=2),
        )
        executor = FakeExecutor()
        executor.requests += [None] * 2
        end = drive(
            go_on(RunFolder.open(folder.path), RunModels(scripted([edit()], **script), executor), Budget(rounds=5))
        )
        assert end.outcome.met and [remark.after for remark in end.remarks] == [0, 1] and len(end.steps) == 3

    def test_of_a_run_that_nobody_reviewed_is_not_reviewed_later(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run")
        script = {"canvases": {0: "muu", 1: "mmu", 2: "mmm"}}
        play(scripted([generate(), edit()], **script), None, folder, budget=Budget(rounds=2))
        artist, executor = Artist(), FakeExecutor()
        executor.requests += [None] * 2
        end = drive(
            go_on(
                RunFolder.open(folder.path),
                RunModels(scripted([edit()], **script), executor),
                Budget(rounds=5),
                reviewer=artist,
            )
        )
        assert [len(told.steps) for told in artist.shown] == [2, 3] and end.outcome.met

    def test_of_a_mask_that_was_changed_is_refused(self, tmp_path):
        folder, _ = self.run(tmp_path)
        lines = (folder.path / JOURNAL).read_bytes().splitlines(keepends=True)
        last = max(number for number, line in enumerate(lines) if json.loads(line)["event"] == "drawn")
        (folder.path / JOURNAL).write_bytes(b"".join(lines[:last]))
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder.path / "mask-001.png")
        session = resume(RunFolder.open(folder.path), RunModels(scripted([], {2: "mmmm"}), FakeExecutor()))
        with pytest.raises(BadInput, match=r"mask-001.png is missing or damaged"):
            drive(session)


class TestHeed:
    told = trajectory(
        step(canvas=0, verdicts={"g1": "met", "g2": "unmet"}),
        step("EDIT", canvas=1, parent=0, verdicts={"g1": "met", "g2": "met"}, accepted=False),
        goals=goals("a barn", "a cat"),
    )

    @pytest.mark.parametrize(
        ("remark", "message"),
        [
            (Remark(1, corrected={"g9": "met"}), "names a goal 'g9', and the run has g1, g2"),
            (Remark(1, dropped=("x",)), "names a goal 'x'"),
            (Remark(1, back_to=7), "canvas 7, which no step of the run proposed"),
            (Remark(1, words="w" * 2001), "2,001 characters; at most 2,000"),
            (Remark(1, dropped=("g1", "g2")), "every goal was dropped"),
        ],
        ids=["corrected", "dropped", "back", "words", "all dropped"],
    )
    def test_refuses_what_the_run_does_not_have(self, remark, message):
        with pytest.raises(BadInput, match=message):
            apply_remark(self.told, remark)

    def test_a_dropped_goal_decides_no_longer_which_canvas_is_best(self):
        assert rules.best(self.told.steps).chosen == 1
        assert apply_remark(self.told, Remark(1, dropped=("g2",))).best == 0

    def test_every_goal_may_be_exchanged_for_a_wish(self):
        assert [goal.id for goal in apply_remark(self.told, Remark(1, dropped=("g1", "g2"), words="a dog")).goals] == [
            "a1"
        ]


def test_a_wish_takes_no_id_that_a_goal_has_and_such_a_goal_is_none_by_its_first_letter():
    run = Trajectory(a_brief(), goals=(Goal("a1", "a cat"), Goal("arch", "an arch")))
    (*_, wished) = apply_remark(run, Remark(-1, words="more light")).goals
    assert wished.id == "a2" and is_wish("a2") and not is_wish("arch") and not is_wish("g1")


def test_the_embedded_models_serve_a_wish_in_their_own_words():
    brief = a_brief(prompt="a large red cat at the top left", **SIZE)
    artist = Artist(Remark(0, words="a small blue car at the bottom right", dropped=("g1",)))
    end = drive(Session(brief, RunModels(load_vlm(), OracleExecutor(0.0)), reviewer=artist))
    assert end.outcome.met and [goal.text for goal in end.goals][-1] == "a small blue car at the bottom right"


def test_the_embedded_judge_says_nothing_of_a_wish_in_other_words():
    brief = a_brief(prompt="a large red cat at the top left", **SIZE, budget=Budget(rounds=3, patience=2))
    end = drive(
        Session(brief, RunModels(load_vlm(), OracleExecutor(0.0)), reviewer=Artist(Remark(0, words="more atmosphere")))
    )
    assert not end.outcome.met and end.outcome.canvas == 0
