"""The data of Think in Strokes in the sticker world: exact labels, the paper's mix, files that are read back."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.stickers.critique import contradiction
from clvr_core.stickers.grammar import parse, parse_instruction
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.simulated import perceive_rendered, picture_of
from clvr_core.synthesis import critique as made
from clvr_core.synthesis.critique import (
    MIX,
    Critique,
    Parts,
    erring_controller,
    lessons,
    read_critiques,
    synthesize_critiques,
)
from clvr_core.synthesis.data import read_rows, read_trl
from clvr_core.vlm.decisions import DECIDE, ONE_WORD
from tests.stickers.test_art import needs_art

COUNT = 24


def draw(scene):
    """Blocks of colour: no art is needed, and the scene is in the lowest bits."""
    return picture_of(scene)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("critiques") / "set"
    synthesize_critiques(out, COUNT, erring_controller(3), draw, seed=3, report=lambda line: None)
    return out


def test_there_are_as_many_of_each_part_as_in_the_papers_mix(data):
    parts, found = Parts.of(COUNT), read_critiques(data)
    assert len(read_rows(data)) == COUNT
    counts = {(part, wrong): 0 for part in ("instruction", "picture") for wrong in (True, False)}
    for each in found:
        counts[each.part, each.wrong] += 1
    assert list(counts.values()) == [parts.conflicting, parts.fine, parts.failing, parts.following]
    paper = Parts.of(32_012)
    assert (paper.conflicting, paper.fine) == (6_905, 8_296) and (paper.following, paper.failing) == (5_000, 10_000)


def test_an_instruction_is_labelled_by_its_words_and_the_better_one_contradicts_nothing(data):
    instructions = [each for each in read_critiques(data) if each.part == "instruction"]
    for each in instructions:
        spec, edit = parse(each.brief), bool(parse_instruction(each.instruction))
        words = {
            "kind": "EDIT" if edit else "GENERATE",
            "edit_prompt": each.instruction,
            "scene_prompt": each.instruction,
        }
        assert bool(contradiction(spec, words)) == each.wrong and each.answer == ("Yes" if each.wrong else "No")
        assert each.brief in each.question and each.instruction in each.question
        if each.wrong:
            better = json.loads(each.better)
            assert list(better)[:2] == ["summary", "kind"] and not contradiction(spec, better)
            assert each.request[-1][0] == "user" and each.instruction in each.request[-1][1], "told of its mistake"


def test_a_picture_is_labelled_by_what_it_shows_and_its_mending_leads_there(data):
    from clvr_core.stickers.judge import _edit
    from clvr_core.stickers.perceive import Perception
    from clvr_core.stickers.proxies import after
    from clvr_core.training.samples import read_picture

    for each in (each for each in read_critiques(data) if each.part == "picture"):
        before, drawn = (perceive_rendered(read_picture(data / image)) for image in each.images)
        wanted = parse_instruction(each.instruction)
        holds = [_edit(task, before, drawn, wanted) for task in ("edit-done", "edit-kept")]
        assert all(holds) != each.wrong and (each.answer == "Yes") == all(holds)
        scene = drawn.scene()
        for change in parse_instruction(each.better):
            scene = after(change, scene, [drawn.scene()])
        if each.wrong and all(change.kind != "restore" for change in wanted):
            assert _edit("edit-done", before, Perception(scene.things, scene.backdrop), wanted), each


def test_the_mix_is_read_back_with_its_pictures_and_asks_as_the_loop_does(data):
    lines = read_trl(data, MIX)
    critiques = read_critiques(data)
    better = sum(bool(each.better and each.request) for each in critiques)
    assert len(lines) == COUNT + len(critiques) + better
    decisions = [line for line in lines if line["messages"][0]["content"][0]["text"] == DECIDE]
    assert len(decisions) == len(critiques)
    for line in decisions:
        *images, words = line["messages"][1]["content"]
        assert words["text"].endswith(ONE_WORD) and all(each["image"].size == (192, 192) for each in images)
        assert line["messages"][2]["content"][0]["text"] in ("Yes", "No")


def test_stopped_it_goes_on_to_the_same_files(data, tmp_path, monkeypatch):
    run, calls = made._run, []

    def killed(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*given)

    again = lambda: synthesize_critiques(  # noqa: E731
        tmp_path / "set", COUNT, erring_controller(3), draw, seed=3, report=lambda line: None
    )
    monkeypatch.setattr(made, "TOGETHER", 4)
    monkeypatch.setattr(made, "_run", killed)
    with pytest.raises(KeyboardInterrupt):
        again()
    monkeypatch.setattr(made, "_run", run)
    counts = again()
    assert counts["paintings"] == COUNT and len(read_critiques(tmp_path / "set")) == len(read_critiques(data))
    first = (tmp_path / "set" / made.CRITIQUES).read_bytes()
    again()
    assert (tmp_path / "set" / made.CRITIQUES).read_bytes() == first
    with pytest.raises(BadInput, match="other settings"):
        synthesize_critiques(tmp_path / "set", COUNT + 1, erring_controller(3), draw, seed=3)


def test_a_controller_without_mistakes_fills_no_part_of_mistakes(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "MOST_RUNS", 1)
    exact = StickersVlm(read=perceive_rendered)
    counts = synthesize_critiques(tmp_path / "set", 16, exact, draw, report=lambda line: None)
    assert counts["instructions that contradict"] == 0 < counts["instructions that do not"]


def test_a_lesson_of_a_mistake_ends_in_the_better_reply():
    request = (("system", "s"), ("user", "u"))
    wrong = Critique("instruction", "a cat", "add a dog", "?", "Yes", True, "no dog", "{}", request, (), ("x.png",))
    inspected, corrected = lessons(wrong, "c1")
    assert inspected["messages"][-1]["content"][0]["text"] == "Yes"
    assert [message["role"] for message in corrected["messages"]] == ["system", "user", "assistant"]
    assert corrected["messages"][1]["content"][-1] == {"type": "image", "image": "x.png"}
    assert len(list(lessons(replace(wrong, wrong=False, better="", request=()), "c2"))) == 1


@needs_art
def test_the_command_makes_the_set_and_says_how_many(tmp_path, capsys):
    order = ["synthesize", "--critique", "--out", str(tmp_path / "set"), "--json"]
    assert main([*order, "--count", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["paintings"] == 4
    (tmp_path / "briefs").write_text("a cat\n")
    assert main([*order, "--prompts", str(tmp_path / "briefs")]) == 2
    assert "takes --count" in capsys.readouterr().err


def test_random_briefs_that_are_painted_are_met(data):
    for row in random.Random(0).sample(read_rows(data), 5):
        assert row.turns[-1].score == 1 and row.turns[0].kind == "GENERATE"
