"""Many runs in rounds: what they ask at the same time, and that nothing else changes."""

from __future__ import annotations

import threading

import pytest

from clvr_core.brief import Budget
from clvr_core.errors import Away
from clvr_core.fleet.rounds import drive_all
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from tests.fakes import FakeExecutor, grey
from tests.run.script import a_brief, edit, generate, scripted
from tests.waiting import HUNG

RUNS = 4


class Concurrently:
    """A vision-language model that takes calls from several threads. asked: called before each."""

    parallel = RUNS

    def __init__(self, vlm, asked) -> None:
        self.vlm, self.asked, self.name = vlm, asked, vlm.name
        self.check = lambda: None

    def chat(self, messages, schema):
        self.asked(), self.check()
        return self.vlm.chat(messages, schema)

    def decide(self, images, questions):
        self.asked(), self.check()
        return self.vlm.decide(images, questions)


def a_script():
    return scripted([generate(), edit()], dict.fromkeys(range(9), "muu"), goals=3)


def an_executor() -> FakeExecutor:
    """The first canvas of a run is 10, and each edit 10 more."""
    return FakeExecutor(lambda request: grey(int(request.references[0][0, 0, 0]) + 10 if request.references else 10))


def briefs():
    return [a_brief(seed=seed, budget=Budget(rounds=2)) for seed in range(RUNS)]


def pictures(trajectory) -> list[str]:
    return [candidate.sha256 for step in trajectory.steps for candidate in step.candidates]


def test_runs_ask_their_models_at_the_same_time_and_end_as_each_would_alone():
    together, executor = threading.Barrier(RUNS), an_executor()
    sessions = [
        Session(brief, RunModels(Concurrently(a_script(), lambda: together.wait(HUNG)), executor)) for brief in briefs()
    ]
    side_by_side = drive_all(sessions, executor)
    alone = [drive(Session(brief, RunModels(a_script(), an_executor()))) for brief in briefs()]
    assert [pictures(run) for run in side_by_side] == [pictures(run) for run in alone]
    assert [run.outcome for run in side_by_side] == [run.outcome for run in alone]
    assert executor.batches == [RUNS, RUNS]


def test_a_judge_that_goes_away_leaves_every_run_where_it_can_be_gone_on_with(tmp_path):
    asked, lock = [0], threading.Lock()

    def goes_away() -> None:
        with lock:
            asked[0] += 1
            if asked[0] > 3 * RUNS - 2:
                raise Away("the judge is away")

    folders, executor = [tmp_path / str(number) for number in range(RUNS)], an_executor()
    sessions = [
        Session(brief, RunModels(Concurrently(a_script(), goes_away), executor), RunFolder.create(folder))
        for brief, folder in zip(briefs(), folders)
    ]
    with pytest.raises(Away):
        drive_all(sessions, executor)
    before = [len(RunFolder.open(folder).lines) for folder in folders]
    ends = []
    for folder in folders:
        run = RunFolder.open(folder)
        at = sum(line["event"] == "action" for line in run.lines)
        vlm = scripted(
            [generate(), edit()][at:],
            dict.fromkeys(range(9), "muu"),
            goals=[] if any(line["event"] == "planned" for line in run.lines) else 3,
        )
        ends.append(drive(resume(run, RunModels(vlm, an_executor()))))
    alone = [drive(Session(brief, RunModels(a_script(), an_executor()))) for brief in briefs()]
    assert min(before) >= 2 and [pictures(run) for run in ends] == [pictures(run) for run in alone]
