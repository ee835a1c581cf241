"""Named references in a run: kept in its folder, shown to controller, executor and judge, in the brief's order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clvr_core.brief import Budget, Goal, Reference
from clvr_core.errors import BadInput
from clvr_core.run.references import Given, read_references, with_references
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.trajectory import Finding
from clvr_core.witness import Witnesses
from clvr_core.witness.judge import with_witnesses
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.run.script import a_brief, edit, generate

WALL = Goal("g1", "a wall")
ANN, MUG = grey(130, 16, 16), grey(140, 16, 16)


def vlm(likeness=0.9, actions=()):
    """Says of each canvas that its wall is there, and of each likeness this probability; `calls` are the likeness
    questions."""
    said = iter(actions)

    def decisions(images, questions):
        if questions[0].data["task"] == "likeness":
            return [likeness(images) if callable(likeness) else likeness] * len(questions)
        return [0.9] * len(questions)

    return FakeVlm(lambda messages: json.dumps(next(said)), decisions)


def run(judge, executor=None, folder=None, rounds=1, given=None, **fields):
    given = [Given("ann", ANN, "face"), Given("mug", MUG, "product")] if given is None else given
    fields = {"width": 16, "height": 16, "goals": (WALL,), "budget": Budget(rounds=rounds)} | fields
    brief, pictures = with_references(a_brief(**fields), given)
    models = RunModels(judge, executor or FakeExecutor())
    return Session(brief, models, folder, references=pictures)


def test_each_reference_is_a_goal_judged_beside_it():
    judge = vlm(actions=[generate()])
    trajectory = drive(run(judge))
    assert [(goal.id, goal.kind, goal.reference) for goal in trajectory.goals[1:]] == [
        ("r1", "likeness", "ann"),
        ("r2", "likeness", "mug"),
    ]
    assert trajectory.goals[1].text == 'the face of the reference "ann" is kept'
    asked = [call for call in judge.decides if call.questions[0].data["task"] == "likeness"]
    assert [[int(image[0, 0, 0]) for image in call.images] for call in asked] == [[130, 10], [140, 10]]
    assert "The first image is a reference" in asked[0].questions[0].text and trajectory.outcome.met


def test_the_executor_gets_them_after_the_canvas_and_in_order():
    executor = FakeExecutor()
    judge = vlm(
        lambda images: 0.1 if images[1][0, 0, 0] < 30 else 0.9, [generate("a wall"), edit("a face", 0), edit("it", 1)]
    )
    drive(run(judge, executor, rounds=2))
    first, second = executor.requests
    assert [int(picture[0, 0, 0]) for picture in first.references] == [130, 140]
    assert [int(picture[0, 0, 0]) for picture in second.references] == [10, 130, 140]
    assert (
        first.prompt
        == 'a wall Image 1 is the reference "ann": keep its face. Image 2 is the reference "mug": keep its product.'
    )
    assert 'Image 2 is the reference "ann"' in second.prompt and len(second.latents) == 3


def test_the_controller_sees_them_after_the_canvases():
    judge = vlm(0.1, [generate(), edit(), edit()])
    drive(run(judge, rounds=2))
    first, second = (chat.messages[-1] for chat in judge.chats[:2])
    assert [int(image[0, 0, 0]) for image in first.images] == [130, 140]
    assert [int(image[0, 0, 0]) for image in second.images] == [10, 130, 140]
    assert 'picture 1 is the reference "ann", whose face is to be kept' in first.text
    assert 'picture 2 is the reference "ann"' in second.text and 'picture 3 is the reference "mug"' in second.text


def test_an_executor_of_few_references_leaves_other_canvases_out_first():
    class Two(FakeExecutor):
        references = 2

    judge = vlm(0.1, [generate(), edit("it", 0), edit("it", 1, 0)])
    trajectory = drive(run(judge, Two(), rounds=2))
    assert any("edits from 2 of 3 pictures; left out: reference mug" in warning for warning in trajectory.warnings)


def test_without_room_in_the_prompt_the_run_is_warned():
    class Narrow(FakeExecutor):
        window = 4

        def tokens(self, prompt):
            return len(prompt.split())

    executor = Narrow()
    trajectory = drive(run(vlm(actions=[generate("a wall")]), executor))
    assert executor.requests[0].prompt == "a wall"
    assert any("no room to say what the references are" in warning for warning in trajectory.warnings)


def test_a_run_continues_with_the_references_in_its_folder(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    session = run(vlm(0.1, [generate()]), folder=folder, rounds=2)
    call = session.advance()
    session.note(call, session.perform(call))
    session.folder.close()
    names = sorted(path.name for path in (tmp_path / "run").glob("reference-*"))
    assert names == ["reference-ann.png", "reference-mug.png"]
    executor = FakeExecutor()
    again = resume(RunFolder.open(tmp_path / "run"), RunModels(vlm(0.9, [edit("it", 0)]), executor))
    trajectory = drive(again)
    assert np.array_equal(executor.requests[0].references[0], ANN) and trajectory.outcome.met
    Image.fromarray(MUG).save(tmp_path / "run" / "reference-ann.png")
    with pytest.raises(BadInput, match="it is not the reference that was given"):
        resume(RunFolder.open(tmp_path / "run"), RunModels(vlm(), executor))


def test_a_reference_that_was_not_given_and_another_are_refused():
    brief, pictures = with_references(a_brief(width=16, height=16), [Given("ann", ANN)])
    with pytest.raises(BadInput, match="the reference ann of the brief was not given"):
        Session(brief, RunModels(vlm(), FakeExecutor()))
    with pytest.raises(BadInput, match="is another picture than the brief names"):
        Session(brief, RunModels(vlm(), FakeExecutor()), references={"ann": MUG})
    assert np.array_equal(pictures["ann"], ANN)


def test_a_large_reference_is_scaled_to_the_area_of_the_canvas():
    _, pictures = with_references(a_brief(width=64, height=64), [Given("ann", grey(9, 400, 100))])
    assert pictures["ann"].shape == (32, 128, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([Given("a b", ANN)], "letters, digits, dashes"),
        ([Given("../x", ANN)], "letters, digits, dashes"),
        ([Given("ann", ANN), Given("ann", MUG)], "two references have the name 'ann'"),
        ([Given(f"n{number}", ANN) for number in range(9)], "at most 8"),
    ],
)
def test_names_and_number_are_limited(given, words):
    with pytest.raises(BadInput, match=words):
        with_references(a_brief(width=16, height=16), given)
    with pytest.raises(BadInput, match="keeps 'soul'"):
        Reference("ann", "00", "soul")  # type: ignore[arg-type]


def test_a_witness_of_likeness_stands_beside_the_judge():
    class Nearness:
        name = "likeness (by hand)"

        def look(self, picture, goals):
            return {}

        def compare(self, picture, goals, references):
            assert list(references) == ["ann", "mug"]
            return {"r1": Finding("likeness", "no", 0.8, "0.31 like")}

    judge = vlm(actions=[generate()])
    trajectory = drive(run(with_witnesses(judge, Witnesses([Nearness()]))))
    states = {verdict.goal: verdict.state for verdict in trajectory.steps[0].verdicts}
    assert states == {"g1": "met", "r1": "unsure", "r2": "met"}
    assert "likeness: 0.31 like" in trajectory.steps[0].verdict("r1").evidence


def test_the_words_of_the_command_line(tmp_path):
    for name in ("ann.png", "c:d.png"):
        Image.fromarray(ANN).save(tmp_path / name)
    given = read_references([f"ann={tmp_path}/ann.png:face", f"mug={tmp_path}/c:d.png", f"it={tmp_path}/ann.png"])
    assert [(each.name, each.keeps) for each in given] == [("ann", "face"), ("mug", "subject"), ("it", "subject")]
    assert np.array_equal(given[0].picture, ANN)
    for word in ("ann", "ann=", f"ann={tmp_path}/gone.png", f"ann={tmp_path}/ann.png:soul"):
        with pytest.raises(BadInput, match="reference"):
            read_references([word])


def test_a_brief_without_references_is_asked_as_before():
    judge = vlm(actions=[generate()])
    trajectory = drive(run(judge, given=[]))
    assert [goal.id for goal in trajectory.goals] == ["g1"] and "After the canvases" not in judge.chats[0].text
    assert judge.chats[0].messages[-1].images == ()
