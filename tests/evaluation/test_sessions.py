"""Sessions of many edits in a row, in the form of LME-Bench."""

from __future__ import annotations

import json

import pytest

from clvr_core import cli
from clvr_core.errors import BadInput
from clvr_core.evaluation.arms import Way
from clvr_core.evaluation.sessions import Sessions, judge_sessions, read_sessions, success
from clvr_core.fleet.output import Disk
from clvr_core.models.registry import Models
from clvr_core.protocols import Decision
from clvr_core.storage.png import read_png, write_png
from tests.fakes import FakeExecutor, FakeVlm, grey

TURNS = ["Make it red.", "Add a ball.", "Remove the ball."]


def quiet(done, total, remark):
    pass


def written(folder, *changes, images=True):
    """The file of the benchmark, an entry for each change, and its pictures."""
    items = [
        {"id": f"{number:04d}", "category": "pet", "turns": TURNS} | each for number, each in enumerate(changes, 1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lme_bench.json").write_text(json.dumps({"meta": {"n_sessions": len(items)}, "items": items}))
    (folder / "images").mkdir(exist_ok=True)
    for number in range(1, len(items) + 1) if images else ():
        write_png(folder / "images" / f"{number:04d}.png", grey(100 + number, 32, 32), {})
    return folder


class TestTheFile:
    def test_a_session_is_its_turns_and_its_picture(self, tmp_path):
        first, second = read_sessions(written(tmp_path, {}, {"turns": TURNS[:2]}))
        assert first.turns == tuple(TURNS) and second.turns == tuple(TURNS[:2]) and first.category == "pet"
        assert first.source == tmp_path / "images" / "0001.png"

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"id": 3}, "session 1: id is 3; a str is expected"),
            ({"id": "../x"}, "session 1: '../x' is no path inside the data folder"),
            ({"id": "0009"}, "session 1: the picture .*0009.png is not there"),
            ({"turns": []}, "session 1: turns is .*; a list of instructions is expected"),
            ({"turns": ["a", " "]}, "session 1: turns is .*; a list of instructions is expected"),
            ({"turns": "a"}, "session 1: turns is 'a'; a list is expected"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, tmp_path, change, says):
        with pytest.raises(BadInput, match=says):
            read_sessions(written(tmp_path, change))

    def test_so_is_a_folder_without_it_and_a_session_that_comes_twice(self, tmp_path):
        with pytest.raises(BadInput, match=r"does not hold lme_bench\.json"):
            read_sessions(tmp_path)
        with pytest.raises(BadInput, match="session 2: the id '0001' is taken by an earlier session"):
            read_sessions(written(tmp_path, {}, {"id": "0001"}))


def drawn(tmp_path, arm="oneshot", executor=None, **settings):
    executor = executor or FakeExecutor()
    sessions = read_sessions(written(tmp_path / "data", {}, {}))
    work = Sessions(
        Way(arm, Models(FakeVlm(), executor, 32, 32), Disk(tmp_path / "runs")), tmp_path / "out", **settings
    )
    return executor, sessions, work.run(sessions, quiet)


class TestDrawing:
    def test_each_turn_edits_the_picture_of_the_turn_before(self, tmp_path):
        executor, _, failed = drawn(tmp_path)
        assert failed == [] and [request.prompt for request in executor.requests] == [
            turn for turn in TURNS for _ in "ab"
        ]
        given = [int(request.references[0][0, 0, 0]) for request in executor.requests]
        made = [
            int(read_png(tmp_path / "out" / name / f"turn{turn}.png")[0][0, 0, 0])
            for turn in (1, 2)
            for name in ("0001", "0002")
        ]
        assert given == [101, 102, *made]
        assert sorted(path.name for path in (tmp_path / "out" / "0001").iterdir()) == [
            "source.png",
            "turn1.png",
            "turn2.png",
            "turn3.png",
        ]

    def test_what_is_there_is_not_drawn_again(self, tmp_path):
        drawn(tmp_path)
        (tmp_path / "out" / "0002" / "turn3.png").unlink()
        executor, _, _ = drawn(tmp_path)
        assert [request.prompt for request in executor.requests] == [TURNS[2]]

    def test_a_turn_that_cannot_be_drawn_ends_its_session_alone(self, tmp_path):
        class Fails(FakeExecutor):
            def draw(self, requests):
                if any(request.prompt == TURNS[1] and request.references[0][0, 0, 0] == bad for request in requests):
                    raise BadInput("the executor cannot do this")
                return super().draw(requests)

        bad = -1
        drawn(tmp_path / "probe")
        bad = int(read_png(tmp_path / "probe" / "out" / "0001" / "turn1.png")[0][0, 0, 0])
        _, _, failed = drawn(tmp_path, executor=Fails())
        assert failed == [("0001 turn 2", "the executor cannot do this")]
        assert (
            not (tmp_path / "out" / "0001" / "turn3.png").exists()
            and (tmp_path / "out" / "0002" / "turn3.png").exists()
        )

    def test_a_large_source_is_scaled_down(self, tmp_path):
        drawn(tmp_path, side=16)
        assert read_png(tmp_path / "out" / "0001" / "source.png")[0].shape == (16, 16, 3)


class TestJudging:
    def judge(self, tmp_path, says):
        _, sessions, _ = drawn(tmp_path)

        def decisions(images, questions):
            return [
                Decision(says(questions[0].data["instruction"], place), tokens=1) for place in range(len(questions))
            ]

        return judge_sessions(FakeVlm(decisions=decisions), sessions, tmp_path / "out", quiet)

    def test_a_session_is_right_until_a_turn_is_not_carried_out_or_damages_the_rest(self, tmp_path):
        found = self.judge(tmp_path, lambda words, place: 0.1 if words == TURNS[2] and place == 1 else 0.9)
        assert found["success"] == {"1": 1.0, "2": 1.0, "3": 0.0} and found["turns_right"] == {"0001": 2, "0002": 2}
        assert found["ci95"]["3"][0] == 0 and found["ci95"]["1"][1] == 1

    def test_no_answer_is_no_failure(self, tmp_path):
        found = self.judge(tmp_path, lambda words, place: None)
        assert (found["sessions"], found["unanswered"], found["success"]["1"]) == (0, 2, None)

    def test_pictures_that_are_missing_are_named(self, tmp_path):
        sessions = read_sessions(written(tmp_path / "data", {}))
        with pytest.raises(BadInput, match=r"source\.png is not there; carry out the sessions first"):
            judge_sessions(FakeVlm(), sessions, tmp_path / "out", quiet)

    def test_the_share_is_of_all_turns_so_far(self):
        assert success({"a": 3, "b": 1, "c": 0, "d": None}, 3)["success"] == {"1": 2 / 3, "2": 1 / 3, "3": 1 / 3}


def test_the_command_draws_and_then_judges(tmp_path, capsys, monkeypatch):
    models = Models(FakeVlm(), FakeExecutor(), 32, 32)
    judge = FakeVlm(decisions=lambda images, questions: [Decision(0.9, tokens=1)] * len(questions), name="a judge")
    monkeypatch.setattr("clvr_core.models.registry.load_models", lambda name, weights: models)
    monkeypatch.setattr("clvr_core.models.registry.load_judge", lambda name: judge)
    data, out = written(tmp_path / "data", {}, {}), tmp_path / "out"
    words = ["eval", "sessions", "--data", str(data), "--images", str(out), "--arm", "oneshot", "--json"]
    assert cli.main(words) == cli.DONE and json.loads(capsys.readouterr().out)["sessions"] == 2
    assert cli.main([*words, "--judge", "a judge"]) == cli.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["success"] == {"1": 1.0, "2": 1.0, "3": 1.0} and found["judge"] == "a judge"
    assert json.loads((out / "clvr-eval" / "oneshot" / "sessions.json").read_text())["turns_right"] == {
        "0001": 3,
        "0002": 3,
    }
    assert cli.main([*words, "--seed", "1"]) == cli.BAD_INPUT and "seed 0 and not 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--arm", "warp"], "unknown arm 'warp'"),
        (["--arm", "rewrite"], "the arm rewrite draws a new picture"),
        (["--arm", "plan-best-of-n"], "the arm plan-best-of-n draws a new picture"),
        (["--arm", "oneshot", "--side", "0"], "--side is 0; it must be at least 1"),
    ],
)
def test_the_command_refuses_in_a_sentence(tmp_path, capsys, more, says):
    data = written(tmp_path / "data", {})
    words = ["eval", "sessions", "--data", str(data), "--images", str(tmp_path / "out"), *more]
    assert cli.main(words) == cli.BAD_INPUT and says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
