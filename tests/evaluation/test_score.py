"""Scoring: judges whose scores can be worked out by hand, stops and goings-on, and what a result says of itself."""

from __future__ import annotations

import json
import threading

import pytest

from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.benchmarks.base import Scale
from clvr_core.evaluation.judging import judge_picture
from clvr_core.evaluation.score import SILENT, Scoring, VlmJudge
from clvr_core.evaluation.scoring import difference, number
from clvr_core.evaluation.store import Arm
from clvr_core.protocols import Decision, Reply
from tests.evaluation.folders import MAKERS, always, fill
from tests.fakes import FakeVlm, grey


class Bench:
    def __init__(self, name, tmp_path):
        self.bench, self.data, self.images = BENCHMARKS[name], MAKERS[name](tmp_path / "data"), tmp_path / "images"
        self.items = self.bench.read(self.data)
        if name == "prompts":
            from dataclasses import replace

            from clvr_core.evaluation.benchmarks.prompts import atoms_for

            self.items = [replace(item, atoms=atoms_for([item.prompt])) for item in self.items]
        self.arm = Arm(self.images, "arm")

    def scoring(self, vlm, protocol="decisions", parallel=1, pictures=None, arm=None):
        return Scoring(
            self.bench, self.data, arm or self.arm, VlmJudge(vlm, self.items, protocol, parallel), self.items, pictures
        )

    def run(self, vlm, **settings):
        return self.scoring(vlm, **settings).run()

    def fill(self, skip=(), arm=None):
        fill(arm or self.arm, self.bench, self.items, skip)
        return self


def values(result, key="value"):
    return [measure[key] for measure in result["measures"].values()]


TOP = {name: [measure.top for measure in BENCHMARKS[name].measures] for name in BENCHMARKS}
SEEN_RIGHT = TOP | {"r3bench": [0.0, 1.0]}
"""Where everything is seen as right: of R3-Bench's pictures none is mended then, since none was wrong before."""


@pytest.mark.parametrize("name", MAKERS)
class TestJudgesOfOneMind:
    def test_one_that_always_says_yes_gives_all_that_can_be_had(self, name, tmp_path):
        result = Bench(name, tmp_path).fill().run(always(1.0)).result
        assert values(result) == values(result, "strict") == pytest.approx(SEEN_RIGHT[name])
        assert all(item["passed"] == 1.0 for item in result["by_item"])

    def test_one_that_always_says_no_gives_the_least_of_the_scale(self, name, tmp_path):
        result = Bench(name, tmp_path).fill().run(always(0.0)).result
        assert values(result) == pytest.approx([1.0 if name == "imgedit" else 0.0] * len(TOP[name]))

    def test_one_that_never_answers_says_nothing_of_the_pictures(self, name, tmp_path):
        scored = Bench(name, tmp_path).fill().run(always(None))
        assert values(scored.result) == [None] * len(TOP[name]) and values(scored.result, "strict") == [0.0] * len(
            TOP[name]
        )
        assert all(item["passed"] is None for item in scored.result["by_item"])


def test_half_a_yes_is_the_middle_of_a_scale(tmp_path):
    result = Bench("wise", tmp_path).fill().run(always(0.5)).result
    assert result["measures"]["WiScore"]["value"] == pytest.approx(0.5)


def test_imaginebench_is_reported_with_and_without_the_part_that_the_official_script_loses(tmp_path):
    bench = Bench("imagine", tmp_path).fill()

    # Only the multi-object picture is perfect.
    def good(images, questions):
        return [Decision(float("Multi-Object" in question.text), tokens=1) for question in questions]

    result = bench.run(FakeVlm(decisions=good)).result
    assert values(result) == pytest.approx([0.0, 10 * 2 / 9, 10 / 4])


def test_the_weights_of_wise_are_applied(tmp_path):
    bench = Bench("wise", tmp_path).fill()

    def culture(images, questions):
        return [
            Decision(float("riddle 1" in q.text.split('"')[1] and len(q.text.split('"')[1]) == 8)) for q in questions
        ]

    result = bench.run(FakeVlm(decisions=culture)).result
    # One of the two of culture, which weighs 0.4.
    assert result["measures"]["WiScore"]["value"] == pytest.approx(0.5 * 0.4)
    assert result["measures"]["WiScore, all prompts alike"]["value"] == pytest.approx(1 / 7)


def test_lgbench_pools_goals_and_counts_tasks(tmp_path):
    bench = Bench("lgbench", tmp_path).fill()

    def red(images, questions):
        return [
            Decision(float("black" not in question.text and "green" not in question.text)) for question in questions
        ]

    result = bench.run(FakeVlm(decisions=red)).result
    assert values(result) == pytest.approx([4 / 7, 0.0])


def test_a_missing_picture_is_out_of_the_value_and_zero_in_the_strict_one(tmp_path):
    bench = Bench("geneval++", tmp_path).fill(skip=[("2", 0)])
    result = bench.run(always(1.0)).result
    overall = result["measures"]["overall"]
    assert (overall["value"], overall["strict"], overall["items"]) == (1.0, pytest.approx(2 / 3), 2)
    assert result["pictures"] == {"expected": 3, "there": 2, "judged": 2, "unanswered": 0}
    assert any("1 of 3 pictures are missing" in warning for warning in result["warnings"])


def test_fewer_pictures_than_the_benchmark_takes_are_said_to_be_so(tmp_path):
    result = Bench("geneval", tmp_path).fill().run(always(1.0), pictures=1).result
    assert result["pictures"]["expected"] == 4 and any(
        "1 pictures of each item, and the benchmark takes 4" in w for w in result["warnings"]
    )


def test_any_picture_of_four_is_no_headline(tmp_path):
    bench = Bench("geneval", tmp_path).fill()

    # Of each prompt only the first picture is right: pictures are grey 1, 5, 9, 13.
    def first(images, questions):
        return [Decision(float(images[0][0, 0, 0] % 4 == 1))] * len(questions)

    measures = bench.run(FakeVlm(decisions=first)).result["measures"]
    assert (
        measures["overall"]["value"] == pytest.approx(0.25) and measures["prompts met by any picture"]["value"] == 1.0
    )


def test_pictures_of_no_item_and_unreadable_ones_are_told(tmp_path):
    bench = Bench("geneval2", tmp_path).fill()
    (bench.arm.folder / "99999.png").write_bytes(b"x")
    (bench.arm.folder / "00002.png").write_bytes(b"x")
    result = bench.run(always(1.0)).result
    told = " ".join(result["warnings"])
    assert (
        "1 pictures in arm belong to no item" in told
        and "1 pictures cannot be read" in told
        and result["pictures"]["judged"] == 1
    )


def test_a_folder_without_pictures_names_the_first_that_was_looked_for(tmp_path):
    with pytest.raises(BadInput, match=r"the first would be 00000/samples/0000\.png"):
        Bench("geneval", tmp_path).run(always(1.0))


def test_an_edit_is_judged_with_the_picture_before_it(tmp_path):
    bench, vlm = Bench("imgedit", tmp_path).fill(), always(1.0)
    bench.run(vlm)
    assert [[image[0, 0, 0] for image in call.images] for call in vlm.decides] == [[110, 1], [111, 2]]


class TestGoingOn:
    def test_a_judge_that_goes_down_half_way_ends_it_and_nothing_is_asked_twice(self, tmp_path):
        bench = Bench("geneval", tmp_path).fill()
        calls = []

        def failing(images, questions):
            calls.append(int(images[0][0, 0, 0]))
            return [Decision(1.0)] * len(questions) if len(calls) <= 6 else ConnectionError("refused")

        scored = bench.run(FakeVlm(decisions=failing))
        assert "gave no answer for 5 pictures running" in scored.down and "refused" in scored.down
        assert scored.result["pictures"] == {"expected": 16, "there": 16, "judged": 6 + SILENT, "unanswered": SILENT}
        again = always(1.0)
        scored = bench.run(again)
        assert not scored.down and sorted(int(call.images[0][0, 0, 0]) for call in again.decides) == list(range(7, 17))
        assert scored.result["pictures"]["unanswered"] == 0 and scored.result["measures"]["overall"]["value"] == 1.0

    def test_a_line_that_was_cut_by_a_kill_is_asked_again(self, tmp_path):
        bench = Bench("geneval2", tmp_path).fill()
        scoring = bench.scoring(always(1.0))
        whole = scoring.run().result
        raw = scoring.journal.path.read_bytes()
        for cut in (len(raw) - 1, len(raw) - 40, raw.index(b"\n") + 1, 10, 0):
            scoring.journal.path.write_bytes(raw[:cut])
            result = bench.run(always(1.0)).result
            assert result["measures"] == whole["measures"] and result["pictures"] == whole["pictures"]

    def test_a_picture_that_has_changed_is_judged_again(self, tmp_path):
        bench = Bench("geneval2", tmp_path).fill()
        bench.run(always(1.0))
        bench.arm.save(bench.bench, bench.items[0], 0, grey(200))
        vlm = always(0.0)
        result = bench.run(vlm).result
        assert len(vlm.decides) == 1 and result["measures"]["Soft-TIFA AM"]["value"] == pytest.approx(0.5)

    def test_another_judge_or_protocol_has_a_result_of_its_own(self, tmp_path):
        bench = Bench("geneval2", tmp_path).fill()
        bench.run(always(1.0))
        bench.run(always(0.0, name="another"))
        reply = json.dumps({"answers": [{"question": n, "answer": "yes", "reason": ""} for n in (1, 2, 3)]})
        one = json.dumps({"answers": [{"question": 1, "answer": "yes", "reason": ""}]})
        bench.run(FakeVlm(replies=lambda messages: reply if "3." in messages[-1].text else one), protocol="reply")
        assert sorted(
            (result["judge"], result["measures"]["Soft-TIFA AM"]["value"]) for result in bench.arm.results()
        ) == [
            ("another", 0.0),
            ("fake-vlm", 1.0),
            ("fake-vlm", 1.0),
        ]

    def test_side_by_side_it_comes_to_the_same(self, tmp_path):
        bench = Bench("geneval", tmp_path).fill()
        lock, most, now = threading.Lock(), [0], [0]

        def slow(images, questions):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            meet.wait(5)
            with lock:
                now[0] -= 1
            return [Decision(float(images[0][0, 0, 0] % 2))] * len(questions)

        meet = threading.Barrier(4)
        together = bench.run(FakeVlm(decisions=slow, name="many"), parallel=4).result
        alone = bench.run(
            FakeVlm(decisions=lambda i, q: [Decision(float(i[0][0, 0, 0] % 2))] * len(q), name="one")
        ).result
        assert most[0] == 4 and together["measures"] == alone["measures"]


class TestAReply:
    @pytest.fixture
    def item(self, tmp_path):
        return BENCHMARKS["wise"].read(MAKERS["wise"](tmp_path))[0]

    @staticmethod
    def said(*answers):
        return json.dumps(
            {"answers": [{"question": n, "answer": answer, "reason": "seen"} for n, answer in enumerate(answers, 1)]}
        )

    def test_is_read_in_the_order_of_its_questions(self, item):
        judged = judge_picture(FakeVlm(replies=[Reply(self.said(2, 1, 0), tokens=9)]), item, [grey()], "reply")
        assert judged.answers == {"consistency": 2.0, "realism": 1.0, "aesthetic_quality": 0.0} and judged.tokens == 9
        assert judged.reasons["realism"] == "seen"

    @pytest.mark.parametrize("bad", [(2, 1), (2, 1, 7), (2, 1, "yes"), (2, 1, True)])
    def test_that_leaves_a_question_open_is_asked_for_once_more(self, item, bad):
        judged = judge_picture(FakeVlm(replies=[self.said(*bad), self.said(2, 2, 2)]), item, [grey()], "reply")
        assert set(judged.answers.values()) == {2.0} and judged.calls == 2

    def test_that_does_not_come_leaves_every_answer_missing_with_the_reason(self, item):
        judged = judge_picture(FakeVlm(replies=[JudgeFailure("gone")] * 2), item, [grey()], "reply")
        assert judged.silent and "gone" in judged.reasons["realism"]

    def test_that_lacks_one_answer_twice_keeps_the_others(self, item):
        replies = [self.said(2, None, 0), self.said(1, True, 7)]
        judged = judge_picture(FakeVlm(replies=replies), item, [grey()], "reply")
        assert judged.answers == {"consistency": 2.0, "realism": None, "aesthetic_quality": 0.0}
        assert "question 2 has no answer" in judged.reasons["realism"] and judged.reasons["consistency"] == "seen"

    @pytest.mark.parametrize(
        ("form", "found"),
        [
            ("The format is {high}. I answer {low}", [1.0, 1.0, 0.0]),
            ("{low}{low}", [1.0, 1.0, 0.0]),
            ("{low}. At best {high}", [None, 1.0, None]),
            ("{high}{low}", [None, 1.0, None]),
        ],
        ids=["example first", "doubled", "raised", "contradictory"],
    )
    def test_of_several_objects_the_last_counts_but_never_raises_a_grade(self, item, form, found):
        text = form.format(high=self.said(2, 1, 2), low=self.said(1, 1, 0))
        judged = judge_picture(FakeVlm(replies=[text, text]), item, [grey()], "reply")
        assert list(judged.answers.values()) == found

    @pytest.mark.parametrize("number", [0, -9, 99])
    def test_a_reason_to_a_question_that_was_not_asked_is_nobodys(self, item, number):
        more = {"question": number, "answer": 1, "reason": "strange"}
        text = json.dumps({"answers": [*json.loads(self.said(2, 1, 0))["answers"], more]})
        judged = judge_picture(FakeVlm(replies=[text]), item, [grey()], "reply")
        assert set(judged.reasons.values()) == {"seen"} and None not in judged.answers.values()

    def test_two_answers_to_one_question_are_none(self, item):
        twice = json.dumps({"answers": [{"question": 1, "answer": 2}, {"question": 1, "answer": 0}]})
        judged = judge_picture(FakeVlm(replies=[twice, twice]), item, [grey()], "reply")
        assert judged.answers["consistency"] is None


def test_a_grade_is_the_sum_of_its_rungs():
    from clvr_core.evaluation.benchmarks.base import Item

    item = Item("1", "p", "t", scales=(Scale("s", "Grade it.", 1.0, ((2.0, "a"), (4.0, "b"), (5.0, "c"))),))
    judged = judge_picture(FakeVlm(decisions=[[1.0, 0.5, 0.25]]), item, [grey()])
    assert judged.answers == {"s": pytest.approx(1 + 1.0 + 2 * 0.5 + 0.25)}
    assert judge_picture(FakeVlm(decisions=[[1.0, None, 0.2]] * 2), item, [grey()]).answers == {"s": None}


def test_a_result_says_what_it_stands_on(tmp_path):
    result = Bench("geneval", tmp_path).fill().run(always(1.0)).result
    assert result["title"] == "GenEval-compatible" and "VLM checklist judge" in result["protocol"]
    assert len(result["data_sha256"]) == len(result["words_sha256"]) == 64 and result["judge"] == "fake-vlm"
    assert any("4 items, and the benchmark has 553" in warning for warning in result["warnings"])


def test_the_words_hash_changes_with_any_word(tmp_path):
    bench = Bench("geneval2", tmp_path)
    before = VlmJudge(always(1.0), bench.items).words
    path = bench.data / "geneval2_data.jsonl"
    path.write_text(path.read_text().replace("Are the hats red?", "Are all hats red?"))
    assert VlmJudge(always(1.0), bench.bench.read(bench.data)).words != before


def test_differences_are_paired(tmp_path):
    bench = Bench("geneval2", tmp_path)
    measure = bench.bench.measures[0]
    mine = {("00001", 0): {"0": 1.0, "1": 1.0, "2": 1.0}, ("00002", 0): {"0": 0.5}}
    other = {("00001", 0): {"0": 0.9, "1": 0.9, "2": 0.9}, ("00002", 0): {"0": 0.4}}
    gap, bounds = difference(measure, bench.items, mine, other, 1)
    # Each item gains the same, so however they are drawn the gap is the same.
    assert gap == pytest.approx(0.1) and bounds.low == pytest.approx(0.1) and bounds.high == pytest.approx(0.1)
    assert number(measure, bench.items, mine, 1).bounds.low == pytest.approx(0.5)
