"""The words themselves: nobody changes them by accident, and every change has a version of its own."""

from __future__ import annotations

import json

import pytest

from clvr_core.controller import TEMPLATES as CONTROLLER
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import RunFolder, trajectory_from
from clvr_core.run.session import PROMPTS, RunModels, drive, resume, start
from clvr_core.templates import Templates
from clvr_core.verifier import TEMPLATES as VERIFIER
from tests.controller.conversations import FOLDER, PARTS, STRATEGIES, WORDINGS, conversation, digests
from tests.fakes import FakeExecutor
from tests.run.script import a_brief, generate, scripted


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_whole_conversation_is_the_one_that_was_read(strategy):
    """If the change is meant: python -m tests.controller.conversations, and read what it wrote."""
    assert conversation(strategy) == (FOLDER / f"{strategy}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", PARTS)
def test_another_wording_has_another_version(part):
    """A new text, as a new strategy brings one, changes no words of an earlier run: it is added under the same version."""
    listed, found = json.loads(WORDINGS.read_text("utf-8"))[part].get(PARTS[part].version, {}), digests(PARTS[part])
    changed = [name for name in listed if found.get(name) != listed[name]]
    assert not changed, "give version.txt a new number, then run: python -m tests.controller.conversations"
    assert found == listed, "list the new texts: python -m tests.controller.conversations"


def test_the_versions_are_part_of_the_record(tmp_path):
    session = start(a_brief(), RunModels(scripted(), FakeExecutor()), tmp_path)
    assert (
        session.folder.lines[0]["prompts"]
        == PROMPTS
        == {"controller": CONTROLLER.version, "verifier": VERIFIER.version}
    )
    assert trajectory_from(session.folder.lines).prompts == PROMPTS == session.trajectory.prompts


def test_a_run_in_other_words_is_not_gone_on_with(tmp_path):
    start(a_brief(), RunModels(scripted([generate()]), FakeExecutor()), tmp_path).folder.sync()
    journal = tmp_path / "trajectory.jsonl"
    journal.write_text(journal.read_text().replace(f'"controller":"{CONTROLLER.version}"', '"controller":"0"'))
    with pytest.raises(BadInput, match=r"prompts .*0.* and this version has"):
        resume(RunFolder.open(tmp_path), RunModels(scripted(), FakeExecutor()))


def test_a_run_in_the_first_words_is_gone_on_with_in_them(tmp_path):
    """And so is one from before the prompts had versions. The first words are kept to the letter."""
    digest = json.loads(WORDINGS.read_text("utf-8"))["verifier"]["1"]
    for name in ("goal", "edit_done", "edit_kept", "compare", "choose"):
        assert digests(VERIFIER)[f"{name}_1.txt"] == digest[f"{name}.txt"]
    for number, named in enumerate(('"prompts":{"controller":"1","verifier":"1"}', '"schema":1')):
        out = tmp_path / str(number)
        drive(start(a_brief(), RunModels(scripted([generate()], {0: "mmm"}), FakeExecutor()), out))
        journal = out / "trajectory.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        prompts = json.dumps(PROMPTS, separators=(",", ":"))
        lines[0] = lines[0].replace(f'"prompts":{prompts}', named)
        assert named in lines[0]
        journal.write_text(
            "".join(line for line in lines if json.loads(line)["event"] in ("start", "goals", "planned"))
        )
        vlm = scripted([generate()], {0: "mmm"})
        run = drive(resume(RunFolder.open(out), RunModels(vlm, FakeExecutor())))
        asked = [question.text for each in vlm.decides for question in each.questions]
        assert run.outcome.met and run.prompts == {"controller": "1", "verifier": "1"}
        assert [text.split(" Judge only")[0] for text in asked] == [f"Is thing {place} there?" for place in (1, 2, 3)]
        (action,) = [each.messages[-1].text for each in vlm.chats]
        assert "\n\nThis step is to serve: g1, g2, g3.\n\n" in action


class TestTemplates:
    @pytest.fixture
    def templates(self, tmp_path):
        (tmp_path / "version.txt").write_text("7\n")
        (tmp_path / "letter.txt").write_text("To $who.\n\nOf $what:\n$list\n\nFarewell.\n")
        return Templates(tmp_path)

    def test_a_paragraph_whose_value_is_empty_is_left_out(self, templates):
        assert templates.text("letter", who="A", what="B", list="c\n\nd") == "To A.\n\nOf B:\nc\n\nd\n\nFarewell."
        assert templates.text("letter", who="A", what="B", list="") == "To A.\n\nFarewell."

    def test_a_value_is_never_read_for_places_of_its_own(self, templates):
        assert "To $what ${list} {who} %s." in templates.text("letter", who="$what ${list} {who} %s", what="B", list="")

    def test_a_value_that_is_not_given_is_a_mistake(self, templates):
        with pytest.raises(KeyError):
            templates.text("letter", who="A", what="B")

    def test_the_version_is_read_from_its_file(self, templates):
        assert templates.version == "7"
