"""How often a witness was right, from labels and from what an artist corrected."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clvr_core.brief import Budget, Goal
from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.evaluation.calibrate import calibrate, in_words, likeness_in_words, read_labels
from clvr_core.models.witnesses import reliability_file
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.trajectory import Finding, Remark
from clvr_core.witness import Witnesses
from clvr_core.witness.likeness import LikenessWitness
from clvr_core.witness.reliability import Reliability, read_reliability, write_reliability
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.run.script import a_brief, edit, generate, scripted

GOAL = 'a sign that says "OPEN"'


class Brightness:
    """Says of every goal that it holds where the picture is bright."""

    name = "text (brightness)"

    def look(self, picture, goals):
        return {goal.id: Finding("text", "yes" if picture.mean() > 100 else "no") for goal in goals}


def labelled(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("bright.png", 200), ("dark.png", 20)):
        Image.fromarray(grey(value)).save(folder / name)
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def line(picture, holds, goal=GOAL, **more):
    return {"picture": picture, "goal": goal, "kind": "text", "holds": holds, **more}


def test_each_answer_is_held_against_its_label(tmp_path):
    lines = [line("bright.png", True)] * 3 + [
        line("bright.png", False),
        line("dark.png", False),
        line("dark.png", True),
    ]
    found = calibrate(read_labels(labelled(tmp_path, *lines)), Witnesses([Brightness()]))
    assert found == {"text (brightness)": Reliability(yes_right=3, yes_wrong=1, no_right=1, no_wrong=1)}


def test_the_judges_count_is_measured_too(tmp_path):
    lines = [line("bright.png", True, "three apples", kind="local"), line("dark.png", False, "no cats", kind="local")]
    vlm = FakeVlm(lambda messages: json.dumps({"counts": [{"goal": "c0", "number": 3}]}))
    found = calibrate(read_labels(labelled(tmp_path, *lines)), Witnesses(counts=True), vlm)
    assert found == {"count": Reliability(yes_right=1, no_right=1)}


def test_corrections_of_the_artist_are_labels_of_the_canvas_that_was_current(tmp_path):
    corrected = [Remark(0, corrected={"g2": "unmet"}), Remark(1, corrected={"g2": "met"}), Remark(2, "stop")]
    said = iter(corrected)
    vlm = scripted([generate(), edit(), edit()], {0: "um", 1: "um", 2: "um"})
    goals = (Goal("g1", "a wall"), Goal("g2", GOAL, "text"))
    executor = FakeExecutor([grey(10), grey(20), grey(30)])
    folder = RunFolder.create(tmp_path / "runs" / "first")
    brief = a_brief(goals=goals, budget=Budget(rounds=3))
    drive(Session(brief, RunModels(vlm, executor), folder, reviewer=lambda trajectory: (next(said), None)))
    labels = read_labels(tmp_path / "runs")
    assert [(label.goal.id, label.holds) for label in labels] == [("g2", False), ("g2", True)]
    assert np.array_equal(labels[0].load(), grey(10)) and labels[0].where == "first/0"
    assert read_labels(tmp_path / "runs" / "first")[0].where == labels[0].where


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"picture": "bright.png", "goal": "x"}], "line 1: .*holds"),
        ([line("../bright.png", True)], "lies outside the folder"),
        ([line("bright.png", True, kind="smell")], "line 1"),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path, lines, words):
    with pytest.raises(BadInput, match=words):
        read_labels(labelled(tmp_path / "labels", *lines))


def test_a_folder_without_labels_says_what_to_write(tmp_path):
    with pytest.raises(BadInput, match=r"no labels\.jsonl, and no run in it in which a verdict was corrected"):
        read_labels(tmp_path)


def test_a_missing_picture_is_named(tmp_path):
    labels = read_labels(labelled(tmp_path, line("gone.png", True)))
    with pytest.raises(BadInput, match=r"gone\.png"):
        calibrate(labels, Witnesses([Brightness()]))


class Greys:
    """A picture's vector turns with its brightness."""

    name = "greys"

    def embed(self, pictures):
        turns = np.array([picture.mean() / 255 for picture in pictures])
        return np.stack([np.cos(turns), np.sin(turns)], 1)


def test_likeness_is_measured_against_the_reference_of_its_line(tmp_path):
    alike = {"goal": "ann is kept", "kind": "likeness"}
    lines = [
        {"picture": "bright.png", "reference": "bright.png", "holds": True, **alike},
        {"picture": "dark.png", "reference": "bright.png", "holds": False, **alike},
        {"picture": "dark.png", "reference": "dark.png", "holds": True, **alike},
    ]
    labels, witness = read_labels(labelled(tmp_path, *lines)), LikenessWitness(Greys(), 0.99)
    assert calibrate(labels, Witnesses([witness])) == {witness.name: Reliability(yes_right=2, no_right=1)}
    words = likeness_in_words(labels, witness)
    assert words == (
        "likeness: 1.00 to 1.00 where it holds, 0.76 to 0.76 where it does not; from 1.00 on tells best, right in 1.00"
    )
    assert likeness_in_words(labels[:1], witness) == ""


def test_a_reference_outside_the_folder_is_refused(tmp_path):
    line = {"picture": "bright.png", "goal": "x", "kind": "likeness", "reference": "../ann.png", "holds": True}
    with pytest.raises(BadInput, match=r"ann\.png' lies outside the folder"):
        read_labels(labelled(tmp_path / "labels", line))


def test_what_was_measured_is_kept_beside_that_of_others(tmp_path):
    file = tmp_path / "deep" / "witnesses.json"
    write_reliability(file, {"text (a)": Reliability(yes_right=30)})
    write_reliability(file, {"count": Reliability(no_right=8, no_wrong=12)})
    assert read_reliability(file) == {"text (a)": Reliability(30), "count": Reliability(no_right=8, no_wrong=12)}
    words = in_words(read_reliability(file))
    assert "text (a): says yes, right in 30 of 30; settles what the judge leaves open" in words
    assert "count: says no, right in 8 of 20; is told and not counted" in words
    assert "count: says yes, right in 0 of 0; too few to tell" in words
    file.write_text("[1]")
    with pytest.raises(BadInput, match="measure the witnesses again"):
        read_reliability(file)


def test_the_command_measures_keeps_and_tells(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLVR_CACHE", str(tmp_path / "cache"))
    folder = labelled(tmp_path / "labels", *[line("bright.png", True)] * 12)
    monkeypatch.setattr("clvr_core.models.witnesses.load_witnesses", lambda settings: Witnesses([Brightness()]))
    assert main(["doctor", "--calibrate", str(folder), "--witness", "text"]) == 0
    assert "says yes, right in 12 of 12" in capsys.readouterr().out
    assert read_reliability(reliability_file()) == {"text (brightness)": Reliability(yes_right=12)}


def test_without_a_witness_there_is_nothing_to_measure(tmp_path, capsys):
    assert main(["doctor", "--calibrate", str(labelled(tmp_path, line("bright.png", True))), "--witness", "none"]) == 2
    assert "there is no witness to measure" in capsys.readouterr().err
