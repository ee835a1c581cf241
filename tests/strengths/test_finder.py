"""The search with fake models: what is drawn and asked, what is kept, what a judge that fails may not do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.strengths.finder import JOURNAL, RESULT, SHEET, search, summary_of
from clvr_core.strengths.grid import Space, Strengths
from tests.fakes import FakeExecutor, FakeVlm, grey

SPACE = Space(alphas=(1.0, 0.5), lora_factors=(1.0, 0.0), briefs=("a barn", "a cat"), seeds=(3, 4))
GOALS = json.dumps({"goals": [{"text": "a thing"}]})


class Bench:
    """An executor whose picture is as bright as its strengths, and what was asked of it."""

    def __init__(self) -> None:
        self.at: list[Strengths] = []
        self.executor = FakeExecutor(lambda request: self.picture(request))

    def picture(self, request):
        return grey(int(100 * self.at[-1].alpha + 30 * self.at[-1].lora) + request.seed, request.width, request.height)

    def __call__(self, strengths: Strengths) -> FakeExecutor:
        self.at.append(strengths)
        return self.executor


def brighter(images, questions):
    first, second = (int(image[0, 0, 0]) for image in images)
    return [0.9 if first > second else 0.1]


def found(tmp_path, bench, vlm, space=SPACE, key="k", **more):
    return search(space, bench, vlm, tmp_path / "search", key, 16, 16, **more)


def test_the_best_point_wins_and_the_folder_says_why(tmp_path):
    bench, vlm, said = Bench(), FakeVlm(lambda messages: GOALS, brighter), []
    done = found(tmp_path, bench, vlm, progress=lambda *each: said.append(each))
    assert done.best == Strengths(1.0, 1.0, 1.0) and done.unanswered == 0 and done.rounds == 2
    assert done.comparisons == 14 and len(vlm.decides) == 28, "both orders"
    assert len(bench.at) == 4 + 2, "the lower half was not drawn again"
    assert [request.seed for request in bench.executor.requests].count(4) == 4
    assert vlm.decides[0].questions[0].data["goals"][0]["text"] == "a thing"
    folder = tmp_path / "search"
    assert {path.name for path in folder.glob("point-*.png")} >= {"point-00-round-2-brief-2.png"}
    result = json.loads((folder / RESULT).read_text())
    assert result["best"] == {"alpha": 1.0, "beta": 1.0, "lora": 1.0} and result["nfe"] == done.nfe == 48
    assert (folder / SHEET).exists() and done.sheet.dtype == np.uint8
    assert summary_of(done, SPACE).splitlines()[1].startswith("  1. alpha 1, LoRA x 1: 8 won, 0 tied, 0 lost")
    counts = [each[0] for each in said]
    assert counts == sorted(counts) and counts[-1] <= said[-1][1] and "comparing 2 points" in said[-1][2]


@pytest.mark.parametrize("stop", [3, 8, 17, 21])
def test_a_search_that_was_stopped_goes_on_where_it_was(tmp_path, stop):
    class Stopped(Exception):
        pass

    calls = []

    def cancel(done, most, said):
        calls.append(said)
        if len(calls) == stop:
            raise Stopped

    bench, vlm = Bench(), FakeVlm(lambda messages: GOALS, brighter)
    with pytest.raises(Stopped):
        found(tmp_path, bench, vlm, progress=cancel)
    again = found(tmp_path, bench, vlm)
    whole = search(SPACE, Bench(), FakeVlm(lambda messages: GOALS, brighter), tmp_path / "whole", "k", 16, 16)
    assert again.standings == whole.standings and (again.sheet == whole.sheet).all()
    assert (tmp_path / "search" / JOURNAL).read_text() == (tmp_path / "whole" / JOURNAL).read_text()
    assert len(bench.executor.requests) == 12 and len(vlm.decides) == 28 and len(vlm.chats) == 2, "nothing twice"
    asked = len(vlm.decides)
    assert found(tmp_path, bench, vlm).standings == whole.standings and len(vlm.decides) == asked


def test_another_search_in_the_folder_is_refused(tmp_path):
    found(tmp_path, Bench(), FakeVlm(lambda messages: GOALS, brighter))
    with pytest.raises(BadInput, match="holds another search"):
        found(tmp_path, Bench(), FakeVlm(lambda messages: GOALS, brighter), key="other")


def test_a_comparison_without_an_answer_counts_for_nobody_and_is_asked_again(tmp_path):
    broken = True

    def sometimes(images, questions):
        values = sorted(int(image[0, 0, 0]) for image in images)
        return [None] if broken and values == [103, 133] else brighter(images, questions)

    bench, vlm = Bench(), FakeVlm(lambda messages: GOALS, sometimes)
    done = found(tmp_path, bench, vlm)
    assert done.unanswered == 2 and done.comparisons == 14
    assert "2 of 14 comparisons got no answer and count for nobody" in done.warnings[0]
    broken, drawn = False, len(bench.executor.requests)
    mended = found(tmp_path, bench, vlm)
    assert mended.unanswered == 0 and not mended.warnings and len(bench.executor.requests) == drawn


def test_a_judge_that_fails_gives_no_verdict(tmp_path):
    small = Space(alphas=(1.0, 0.5), briefs=("a barn",), seeds=(0, 1))
    silent = FakeVlm(lambda messages: GOALS, lambda images, questions: [None])
    with pytest.raises(JudgeFailure, match=r"answered none of 2 comparisons .*, so no strengths were chosen"):
        found(tmp_path, Bench(), silent, small)
    with pytest.raises(JudgeFailure, match="gave no answer 6 times in a row"):
        search(SPACE, Bench(), silent, tmp_path / "other", "k", 16, 16)
    assert not (tmp_path / "search" / RESULT).exists() and not (tmp_path / "other" / SHEET).exists()


def test_goals_that_cannot_be_written_are_a_warning_and_are_asked_for_again(tmp_path):
    mute = FakeVlm(lambda messages: JudgeFailure("no words"), brighter)
    done = found(tmp_path, Bench(), mute)
    assert (
        done.best.alpha == 1.0
        and "no goals were written for brief 1 (fake-vlm gave no reply: no words)" in done.warnings[0]
    )


def test_no_difference_anywhere_is_said(tmp_path):
    level = FakeVlm(lambda messages: GOALS, lambda images, questions: [0.5])
    done = found(tmp_path, Bench(), level)
    assert done.best == SPACE.points[0] and "saw no difference anywhere" in done.warnings[0]


def test_a_damaged_journal_is_one_sentence(tmp_path):
    found(tmp_path, Bench(), FakeVlm(lambda messages: GOALS, brighter))
    path = tmp_path / "search" / JOURNAL
    path.write_text(path.read_text() + '{"kind":"drawn"}\n')
    with pytest.raises(BadInput, match=r"search.jsonl is damaged \('file'\); remove the folder"):
        found(tmp_path, Bench(), FakeVlm(lambda messages: GOALS, brighter))
