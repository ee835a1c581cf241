"""One run with its models and its folder: what is on disk when, what is kept in memory, what the pictures carry."""

from __future__ import annotations

import json
import os
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.fleet.rounds import drive_all
from clvr_core.protocols import Drawing, SomeDrawn
from clvr_core.run.loop import Repair
from clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder, trajectory_from
from clvr_core.run.session import EVENTS, RunModels, Session, drive, resume, start
from clvr_core.storage.png import read_png, trajectory_of
from clvr_core.trajectory import Remark, seed_for
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.run.killable import PROMPT, VLM
from tests.run.script import VALIDATE, a_brief, asked, drafts, edit, generate, judged, play, scripted
from tests.stickers.oracle import SIZE, OracleExecutor

RESULT_OF = {
    "goals": "goals",
    "action": "action",
    "plan-check": "action",
    "goal": "judged",
    "edit-done": "judged",
    "compare": "compared",
}
"""The event that a question to a model leads to."""


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]


def everything() -> FakeVlm:
    """A run with every kind of call: two candidates a round, a retry, a rollback, a second look, a text inspection, a comparison."""
    return scripted(
        ["no", generate(goals=["g1"]), edit(goals=["g2"]), edit(goals=["g3"])],
        {0: "uuu", 1: [TimeoutError("slow"), "muu"], 2: "uuu", 3: "uuu", 4: "muu", 5: "mmm", 6: "uuu"},
        inspections=repeat(0.1),
        prefers=5,
    )


EVERYTHING = {"strategy": "strokes", "candidates": 2, "final_ab": True}


class Refusing(FakeExecutor):
    """Draws each picture alone, and not those of these numbers, counted from 1."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self.refused = refused

    def draw(self, requests):
        drawn = [
            None if len(self.requests) in self.refused else drawing
            for request in requests
            for drawing in super(Refusing, self).draw([request])
        ]
        if None in drawn:
            raise SomeDrawn("refused", drawn) if any(drawn) else BadInput("refused")
        return drawn


class TestSomeCandidates:
    SCRIPT = [generate(), edit()], {0: "muu", 1: "muu", 2: "mmm"}

    def test_the_round_goes_on_with_those_that_were_drawn_and_says_so(self, tmp_path):
        brief = a_brief(candidates=2)
        session = start(brief, RunModels(scripted(*self.SCRIPT), Refusing(1, 4)), tmp_path / "run")
        run = drive(session)
        assert [len(step.candidates) for step in run.steps] == [1, 1] and run.cost.images == 2 and run.outcome.met
        assert run.steps[0].candidates[0].seed == seed_for(brief.seed, 0, 1), "it keeps the seed of its place"
        assert run.warnings == tuple(f"step {step}: 1 of 2 pictures were not drawn: refused" for step in (0, 1))
        again = resume(RunFolder.open(tmp_path / "run"), RunModels(scripted(), FakeExecutor([])))
        assert drive(again) == run, "a replay takes what is on record"

    def test_a_round_without_any_is_refused(self, tmp_path):
        session = start(a_brief(candidates=2), RunModels(scripted(*self.SCRIPT), Refusing(1, 2)), tmp_path / "run")
        with pytest.raises(BadInput, match="refused"):
            drive(session)

    def test_of_sessions_side_by_side_those_that_have_pictures_keep_them(self, tmp_path):
        sessions = [
            start(a_brief(seed=seed), RunModels(scripted(*self.SCRIPT), FakeExecutor()), tmp_path / str(seed))
            for seed in range(3)
        ]
        with pytest.raises(BadInput, match="refused"):
            drive_all(sessions, Refusing(2))
        events = [[line["event"] for line in lines(tmp_path / str(seed))] for seed in range(3)]
        assert ["drawn" in each for each in events] == [True, False, True]


class TestWhatIsOnDisk:
    def test_every_event_is_written_and_synced_before_the_next_call_begins(self, tmp_path, monkeypatch):
        folder, calls, synced = tmp_path / "run", [], {}
        fsync = os.fsync
        monkeypatch.setattr(
            os, "fsync", lambda file: (fsync(file), synced.update({os.fstat(file).st_ino: os.fstat(file).st_size}))[0]
        )

        def look(event: str) -> None:
            journal = os.stat(folder / JOURNAL)
            assert synced[journal.st_ino] == journal.st_size, "what is written is on the disk"
            calls.append((event, lines(folder), {path.name for path in folder.glob("canvas-*.png")}))

        class Watching(FakeExecutor):
            def draw(self, requests):
                look("drawn")
                return super().draw(requests)

        vlm = everything()
        chat, decide = vlm.chat, vlm.decide
        vlm.chat = lambda messages, schema: (look(RESULT_OF[messages[1].data["task"]]), chat(messages, schema))[1]
        vlm.decide = lambda images, questions: (look(RESULT_OF[questions[0].data["task"]]), decide(images, questions))[
            1
        ]

        def artist(told):
            look("review")
            return Remark(0), None

        drive(Session(a_brief(**EVERYTHING), RunModels(vlm, Watching()), RunFolder.create(folder), reviewer=artist))

        final = lines(folder)
        # No call of a model makes a repair; test_repair.py cuts a run at every line of one.
        assert {event for event, _, _ in calls} == set(EVENTS.values()) - {EVENTS[Repair]}
        for event, written, pictures in calls:
            assert written == final[: len(written)], "nothing that was written changes"
            assert final[len(written)]["event"] == event, "all that came before this call is there"
            told = {
                candidate["file"]
                for line in written
                if line["event"] == "drawn"
                for candidate in line["result"]["candidates"]
            }
            assert pictures == told
        assert len({len(written) for _, written, _ in calls}) == sum(line["event"] in EVENTS.values() for line in final)

    def test_the_lines_tell_the_run(self, tmp_path):
        run = play(everything(), folder=RunFolder.create(tmp_path / "run"), **EVERYTHING)
        events = [line["event"] for line in lines(tmp_path / "run")]
        round_ = ["action", "drawn", "judged", "step"]
        assert events == ["start", "goals", "planned", *round_ * 3, "drawn", "judged", "step", "compared", "end"]
        assert [step.chosen for step in run.steps] == [1, 2, 5, 6] and [step.accepted for step in run.steps] == [
            True,
            False,
            True,
            False,
        ]

    @pytest.mark.parametrize("strategy", ["clvr", "director", "strokes", "oneshot", "best-of-n"])
    def test_after_each_decision_the_file_tells_just_what_the_session_holds(self, tmp_path, strategy):
        folder, decisions = tmp_path / "run", []

        def check(event, line):
            if event in ("planned", "step", "end"):
                decisions.append(event)
                assert trajectory_from(lines(folder)) == session.trajectory

        brief = Brief(PROMPT, strategy, 2, **SIZE, budget=Budget(rounds=5))
        session = start(brief, RunModels(VLM, OracleExecutor(fault=0.4)), folder, listener=check)
        drive(session)
        assert (
            decisions[0] == "planned" and decisions[-1] == "end" and len(decisions) == len(session.trajectory.steps) + 2
        )

    def test_so_it_does_where_a_second_look_mends_an_earlier_step(self, tmp_path):
        canvases = {0: "muu", 1: ["m?u", "muu"], 2: "muu", 3: "muu", 4: "muu"}
        vlm = scripted([generate(), edit(), VALIDATE, *repeat(edit(), 3)], canvases)
        run = play(vlm, folder=RunFolder.create(tmp_path / "run"))
        assert trajectory_from(lines(tmp_path / "run")) == run and run.best == 0

    def test_so_it_does_where_the_budget_ends_the_run_right_after_the_controller_was_asked(self, tmp_path):
        vlm = scripted(["no"] * 6, {0: "uuu", 1: "muu", 2: "mmu"})
        run = play(vlm, folder=RunFolder.create(tmp_path / "run"), budget=Budget(patience=2))
        assert trajectory_from(lines(tmp_path / "run")) == run and len(run.warnings) == 3


class TestWhatThePicturesCarry:
    def test_each_canvas_carries_its_index_and_the_run_up_to_it(self, tmp_path):
        run = play(
            scripted([generate(), edit(), edit()], {0: "muu", 1: "mmu", 2: "mmm"}),
            folder=RunFolder.create(tmp_path / "run"),
        )
        for canvas in range(3):
            path = tmp_path / "run" / f"canvas-{canvas:03d}.png"
            picture, texts = read_png(path)
            assert int(picture[0, 0, 0]) == 10 * (canvas + 1) and texts["clvr_canvas"] == str(canvas)
            assert len(trajectory_of(path).steps) == canvas and trajectory_of(path).brief == run.brief

    def test_the_best_is_handed_over_with_the_whole_run_and_a_page_to_read(self, tmp_path):
        run = play(
            scripted([generate(), *repeat(edit(), 3)], {0: "mmu", 1: "muu", 2: "muu", 3: "muu"}),
            folder=RunFolder.create(tmp_path / "run"),
        )
        picture, texts = read_png(tmp_path / "run" / BEST)
        assert int(picture[0, 0, 0]) == 10 and texts["clvr_canvas"] == "0"
        assert (
            trajectory_of(tmp_path / "run" / BEST).outcome == run.outcome
            and (tmp_path / "run" / REPORT).stat().st_size > 1000
        )

    def test_the_same_run_gives_the_same_bytes(self, tmp_path):
        pictures = []
        for name in ("one", "two"):
            play(everything(), folder=RunFolder.create(tmp_path / name), **EVERYTHING)
            pictures.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")})
        assert pictures[0] == pictures[1] and len(pictures[0]) == 8

    def test_a_run_without_a_picture_ends_with_its_page_and_no_best(self, tmp_path):
        vlm = scripted([generate()], goals=[drafts(3, feasibility=0.1)])
        play(vlm, folder=RunFolder.create(tmp_path / "run"), strategy="director", budget=Budget(images=3))
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [REPORT, JOURNAL]


class TestMemory:
    def test_only_a_few_canvases_are_kept_and_the_others_are_read_back(self, tmp_path):
        held = []

        class Counting(FakeExecutor):
            def draw(self, requests):
                held.append(len(session.canvases))
                return [Drawing(grey(index), 1) for index, _ in enumerate(requests)]

        vlm = scripted([generate(), *repeat(edit(), 9)])
        vlm._decisions = lambda images, questions: [0.1] * len(questions)
        brief = a_brief(candidates=4, budget=Budget(rounds=8, patience=99))
        session = Session(brief, RunModels(vlm, Counting()), RunFolder.create(tmp_path / "run"))
        run = drive(session)
        assert run.canvases == 32 and len(held) == 8 and max(held) <= 10 and len(session.canvases) <= 10
        assert int(session.picture(17)[0, 0, 0]) == 17 % 4

    def test_without_a_folder_all_can_be_looked_at(self):
        session = Session(a_brief(), RunModels(scripted([generate(), edit()], {0: "muu", 1: "mmm"}), FakeExecutor()))
        drive(session)
        assert [int(session.picture(canvas)[0, 0, 0]) for canvas in range(2)] == [10, 20]


class TestTheModels:
    def test_the_executor_is_told_what_the_brief_and_the_action_say(self):
        executor = FakeExecutor()
        play(
            scripted([generate(), edit("add a cat", strength=0.5)], {0: "muu", 1: "mmm"}), executor, width=16, height=24
        )
        first, second = executor.requests
        assert (first.prompt, first.width, first.height, first.strength, first.references) == (
            "a barn",
            16,
            24,
            None,
            (),
        )
        assert (second.prompt, second.strength) == ("add a cat", 0.5)

    def test_a_judge_of_its_own_judges_and_the_controller_only_plans(self, tmp_path):
        controller, judge = scripted([generate(), edit()], {}), scripted([], {0: "muu", 1: "mmm"})
        judge.name = "second opinion"
        session = Session(
            a_brief(), RunModels(controller, FakeExecutor(), judge=judge), RunFolder.create(tmp_path / "run")
        )
        assert drive(session).outcome.met and not controller.decides and not judge.chats and judged(judge) == [0, 1]
        assert lines(tmp_path / "run")[0]["models"] == {
            "controller": "fake-vlm",
            "verifier": "second opinion",
            "executor": "fake-executor",
        }

    def test_the_controller_is_shown_the_canvases_it_may_refer_to(self):
        vlm = scripted([generate(), edit()], {0: "muu", 1: "mmm"})
        play(vlm)
        assert [len(message.images) for message in asked(vlm, "action")] == [0, 1]

    def test_too_few_pictures_are_an_error_and_not_a_shorter_grid(self):
        class Lazy(FakeExecutor):
            def draw(self, requests):
                return super().draw(requests[:1])

        with pytest.raises(ValueError):
            play(scripted([generate()], {0: "mmm"}), Lazy(), candidates=2)

    @pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=repr)
    def test_an_error_of_the_executor_is_not_swallowed(self, error):
        with pytest.raises(type(error)):
            play(scripted([generate()]), FakeExecutor([error]))

    def test_a_brief_of_wrong_types_is_refused_before_anything_is_drawn(self, tmp_path):
        with pytest.raises(BadInput, match=r"Brief\.seed: expected int, found 1\.5"):
            Session(a_brief(seed=1.5), RunModels(scripted(), FakeExecutor()), RunFolder.create(tmp_path / "run"))


def test_the_listener_hears_every_line_once_after_it_was_written(tmp_path):
    heard = []

    def listen(event, line):
        assert lines(tmp_path / "run")[-1] == json.loads(json.dumps(line)) and line["event"] == event
        heard.append(line)

    drive(
        start(
            a_brief(), RunModels(scripted([generate()], {0: "mmm"}), FakeExecutor()), tmp_path / "run", listener=listen
        )
    )
    assert len(heard) == len(lines(tmp_path / "run"))


class TestSideBySide:
    def briefs(self) -> list[Brief]:
        return [
            Brief(PROMPT, strategy, seed, **SIZE, budget=Budget(rounds=4))
            for strategy in ("clvr", "director", "strokes")
            for seed in (1, 2)
        ]

    def test_many_runs_end_as_each_would_alone(self):
        alone, together = OracleExecutor(fault=0.4), OracleExecutor(fault=0.4)
        one_by_one = [drive(Session(brief, RunModels(VLM, alone))) for brief in self.briefs()]
        sessions = [Session(brief, RunModels(VLM, together)) for brief in self.briefs()]
        told = []
        ends = drive_all(sessions, together, told.append)
        assert [[candidate.sha256 for step in run.steps for candidate in step.candidates] for run in ends] == [
            [candidate.sha256 for step in run.steps for candidate in step.candidates] for run in one_by_one
        ]
        assert [run.outcome for run in ends] == [run.outcome for run in one_by_one]
        assert told == sorted(told) and told[-1] == len(sessions)

    def test_the_drawing_of_a_round_is_one_batch(self):
        executor = FakeExecutor()
        sessions = [
            Session(
                a_brief(seed=seed, candidates=2),
                RunModels(scripted([generate()], dict.fromkeys(range(9), "mmm")), executor),
            )
            for seed in range(3)
        ]
        runs = drive_all(sessions, executor)
        assert executor.batches == [6] and [run.cost.images for run in runs] == [2, 2, 2]
        first = [session.picture(0) for session in sessions]
        assert [int(np.unique(picture)[0]) for picture in first] == [10, 30, 50]
