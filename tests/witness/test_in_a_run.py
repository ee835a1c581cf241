"""Witnesses in a whole run: on record, named, resumed with, warned of."""

import numpy as np
import pytest

from clvr_core.brief import Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.models.witnesses import WitnessSettings, judged_with, read_witnesses
from clvr_core.protocols import Concurrent, Interruptible, Movable, Vlm
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.trajectory import Finding
from clvr_core.witness import Witnesses
from clvr_core.witness.judge import Witnessed, with_witnesses, without_witnesses
from clvr_core.witness.lettering import Line
from clvr_core.witness.text import TextWitness
from tests.fakes import FakeExecutor, grey
from tests.run.script import a_brief, edit, generate, scripted

GOALS = (Goal("g1", "a grey wall"), Goal("g2", 'a sign that says "OPEN"', "text"))


class Script:
    """A text reader that reads one text a picture, by the value of its first pixel."""

    name = "script"

    def __init__(self, **read):
        self.read_by, self.pictures = read, []

    def read(self, picture):
        self.pictures.append(picture)
        text = self.read_by.get(f"canvas{picture[0, 0, 0]}", "")
        return [Line(text, 0.99, (0.25, 0.25, 0.75, 0.5))] if text else []


def run(reader, folder=None, seconds=60.0):
    """One generation and one edit; the judge says of both canvases that all goals are met."""
    vlm = scripted([generate(), edit(), edit()], {0: "mm", 1: "mm", 2: "mm"})
    executor = FakeExecutor([grey(10), grey(20), grey(30)])
    models = judged_with(RunModels(vlm, executor), Witnesses([TextWitness(reader)], seconds))
    return Session(a_brief(goals=GOALS, budget=Budget(rounds=3)), models, folder)


def test_a_misspelt_sign_is_not_met_although_the_judge_says_so():
    reader = Script(canvas10="OPNE", canvas20="OPEN")
    trajectory = drive(run(reader))
    first, second = trajectory.steps[:2]
    assert [verdict.state for verdict in first.verdicts] == ["met", "unsure"]
    board = (0.25, 0.25, 0.75, 0.5)
    assert first.verdicts[1].witnesses == (Finding("text", "no", 0.99, 'reads "OPNE"', (board,), board),)
    assert 'reads "OPNE"' in first.verdicts[1].evidence and "the judge: met" in first.verdicts[1].evidence
    assert [verdict.state for verdict in second.verdicts] == ["met", "met"]
    assert trajectory.outcome.met and trajectory.outcome.canvas == 1


def test_the_record_names_the_witnesses_and_a_resume_needs_the_same(tmp_path):
    session = run(Script(canvas10="OPEN"), RunFolder.create(tmp_path / "run"))
    assert drive(session).models["verifier"].endswith("with text (script)")
    vlm = scripted([], {})
    with pytest.raises(BadInput, match=r"with text \(script\)"):
        resume(RunFolder.open(tmp_path / "run"), RunModels(vlm, FakeExecutor([])))


def test_a_reader_that_fails_is_a_warning_of_the_run():
    class Broken(Script):
        def read(self, picture):
            raise ValueError("no such session")

    trajectory = drive(run(Broken()))
    assert trajectory.outcome.met and not trajectory.steps[0].verdicts[1].witnesses
    assert any("text (script) failed: ValueError: no such session" in warning for warning in trajectory.warnings)


def test_without_a_goal_about_lettering_nothing_is_read():
    reader = Script()
    models = judged_with(
        RunModels(scripted([generate()], {0: "m"}), FakeExecutor([grey(10)])), Witnesses([TextWitness(reader)])
    )
    assert drive(Session(a_brief(goals=GOALS[:1]), models)).outcome.met and not reader.pictures


def test_a_judge_with_witnesses_has_the_protocols_of_its_model():
    class Rich:
        name, parallel = "rich", 3

        def __init__(self):
            self.check, self.device = lambda: None, "cpu"

        def chat(self, messages, schema): ...

        def decide(self, images, questions):
            return ()

        def move(self, device):
            self.device = device

    class Plain:
        name = "plain"

        def chat(self, messages, schema): ...

        def decide(self, images, questions):
            return ()

    witnesses = Witnesses([TextWitness(Script())])
    rich, plain = with_witnesses(Rich(), witnesses), with_witnesses(Plain(), witnesses)
    optional = Concurrent, Interruptible, Movable
    assert isinstance(rich, (Vlm)) and all(isinstance(rich, each) for each in (*optional, Witnessed))
    assert (
        isinstance(plain, Vlm)
        and isinstance(plain, Witnessed)
        and not any(isinstance(plain, each) for each in optional)
    )
    rich.move("meta")
    rich.check = len
    inner = without_witnesses(rich)
    assert (inner.device, inner.check, rich.parallel, rich.name) == ("meta", len, 3, "rich with text (script)")
    assert with_witnesses(inner, Witnesses()) is inner and without_witnesses(inner) is inner


def test_other_witnesses_take_the_place_of_those_that_a_judge_has():
    vlm = scripted([], {})
    first, second = (Witnesses([TextWitness(Script())]) for _ in range(2))
    again = with_witnesses(with_witnesses(vlm, first), second)
    assert without_witnesses(again) is vlm and again.name.count("text (script)") == 1


def test_a_huge_picture_is_read_small():
    reader = Script()
    goal = Goal("g1", 'the word "OPEN"', "text")
    TextWitness(reader).look(np.zeros((100, 6000, 3), np.uint8), [goal])
    assert reader.pictures[0].shape == (34, 2048, 3)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("", WitnessSettings()),
        ("text", WitnessSettings(text="auto")),
        ("text=rapidocr, objects=/models/owl", WitnessSettings(text="rapidocr", objects="/models/owl")),
        ("count,changes", WitnessSettings(count=True, changes=True)),
        ("none", WitnessSettings()),
    ],
)
def test_the_words_of_the_command_line(words, settings):
    assert read_witnesses(words) == settings


@pytest.mark.parametrize("words", ["ears", "text,text", "objects", "text=", "count=3", "none,text"])
def test_other_words_are_refused(words):
    with pytest.raises(BadInput, match="witness"):
        read_witnesses(words)


def test_none_takes_the_witnesses_of_a_file_away():
    models = judged_with(RunModels(scripted([], {}), FakeExecutor([])), Witnesses([TextWitness(Script())]))
    assert "text (script)" in models.names["verifier"]
    assert "text (script)" not in judged_with(models, Witnesses()).names["verifier"]


def over_edited(changes):
    """One generation, then an edit of which the judge says that it was not carried out and changed the rest; it gained a
    goal, and left all pixels outside its place."""
    vlm = scripted(
        [generate(), edit(region=[0.0, 0.0, 0.5, 0.5], goals=["g2"])], {0: "mu", 1: "mm"}, edits={1: (0.1, 0.1)}
    )
    first = grey(10)
    second = first.copy()
    second[0:4, 0:4] = 200
    second[0, 0] = 20
    models = RunModels(vlm, FakeExecutor([first, second]))
    models = judged_with(models, Witnesses(changes=True)) if changes else models
    return drive(Session(a_brief(goals=GOALS, budget=Budget(rounds=2)), models)).steps[1]


def test_what_the_pixels_say_stands_beside_the_judges_word_on_the_rest():
    alone, witnessed = over_edited(False), over_edited(True)
    assert alone.ruling == "over-edited" and not alone.edit.witnesses
    (said,) = witnessed.edit.witnesses
    assert witnessed.ruling == "goals gained" and (said.witness, said.says) == ("changes", "yes")
    assert said.words == "the rest: as before"


def test_the_fault_is_the_place_of_the_next_edit_and_is_told_to_the_controller():
    vlm = scripted([generate(), edit("mend the sign", goals=["g2"])], {0: "mm", 1: "mm"})
    executor = FakeExecutor([grey(10), grey(20)])
    models = judged_with(RunModels(vlm, executor), Witnesses([TextWitness(Script(canvas10="OPNE", canvas20="OPEN"))]))
    trajectory = drive(Session(a_brief(goals=GOALS, budget=Budget(rounds=2)), models))
    assert trajectory.steps[1].action.region == (0.175, 0.2125, 0.825, 0.5375)
    mask = executor.requests[1].mask
    assert mask is not None and mask[0, 0] == 0 and mask[3, 4] == 255
    words = vlm.chats[1].text
    assert "what is wrong lies in the middle part of the picture, region [0.25, 0.25, 0.75, 0.50]" in words
