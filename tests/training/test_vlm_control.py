"""What the embedded model is asked as a controller beside goals and actions."""

from __future__ import annotations

import random
from typing import Any

from clvr_core.brief import Brief
from clvr_core.controller import contradicts
from clvr_core.protocols import Decision, Question
from clvr_core.stickers.critique import contradiction
from clvr_core.stickers.grammar import parse
from clvr_core.training.vlm_batches import Writer
from clvr_core.training.vlm_control import critique, request_for_action, requests
from clvr_core.training.vlm_model import FOLDER
from clvr_core.training.vlm_questions import CRITIQUE
from clvr_core.trajectory import Action
from clvr_core.vlm.decisions import ONE_WORD


class Listening:
    name = "listening"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def decide(self, images: Any, questions: list[Question]) -> list[Decision]:
        self.asked += [question.text for question in questions]
        return [Decision(1.0)] * len(questions)


def test_a_critique_is_the_question_of_the_loop_and_answered_by_the_words_of_both():
    rng, answers = random.Random(3), []
    while len(answers) < 60:
        if (found := critique(rng)) is None:
            continue
        text, reply = found.question, found.answer
        answers.append(reply)
        brief, said = (text.split(f"<{mark}>\n")[1].split(f"\n</{mark}>")[0] for mark in ("brief", "instruction"))
        kind = (
            "EDIT" if said.startswith(("add", "remove", "replace", "change", "make", "move", "restore")) else "GENERATE"
        )
        action = Action(kind, **{"edit_prompt" if kind == "EDIT" else "scene_prompt": said})
        listening: Any = Listening()
        contradicts(listening, Brief(brief), action)
        assert [f"{asked}\n{ONE_WORD}" for asked in listening.asked] == [text]
        assert said == found.instruction and parse(brief) == found.brief
        wrong = contradiction(parse(brief), {"kind": kind, "edit_prompt": said, "scene_prompt": said})
        assert reply == ("Yes" if wrong else "No"), wrong
    assert 18 < answers.count("Yes") < 48


def test_a_controller_that_misunderstands_says_other_things_of_the_same_request():
    rng, apart, made = random.Random(4), 0, 0
    while made < 30:
        state = rng.getstate()
        exact = request_for_action(rng)
        rng.setstate(state)
        mistaken = request_for_action(rng, mistaken=0.9)
        if exact is None or mistaken is None:
            continue
        made += 1
        assert exact.parts == mistaken.parts and exact.goals == mistaken.goals
        apart += exact.reply != mistaken.reply
    assert apart > 15


def test_critiques_are_asked_without_a_picture():
    rng, writer = random.Random(5), Writer(FOLDER / "tokenizer.json")
    some = [each for each in requests(rng, 40) if each[0] == CRITIQUE]
    assert len(some) >= 2
    prompt, said = writer._request(*some[0])
    assert writer.image not in prompt and said in ([writer.yes], [writer.no])


def test_the_first_action_of_a_run_is_taught_often():
    rng = random.Random(6)
    replies = [reply for task, _, reply in requests(rng, 150) if task == "action"]
    first = sum('"kind":"GENERATE"' in reply for reply in replies)
    assert 0.35 * len(replies) < first < 0.75 * len(replies)
    alone = [request_for_action(rng, rounds=0) for _ in range(12)]
    assert all(made is None or (made.action and made.action.kind == "GENERATE" and not made.scenes) for made in alone)
