"""10,000 broken, cut, doubled and contradictory answers of a judge: none makes a goal met that it did not answer with
yes, and none loses an answer that it gave.

Each class of answers is made with the right verdict beside it. The fake server and the fake model answer the second
call as they did the first.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from clvr_core.brief import Goal
from clvr_core.http_json.client import ServerFailure
from clvr_core.protocols import Vlm
from clvr_core.verifier import judge
from clvr_core.vlm import server
from clvr_core.vlm.local import LocalVlm
from clvr_core.vlm.replies import MAX_REPLY
from clvr_core.vlm.server import ANY_ANSWER, Endpoint, ServerVlm
from tests.fakes import grey

STATES = {"yes": "met", "no": "unmet", "unsure": "unsure"}
SEEDS = {"written with": 18, "held out": 290118}
SHARES = {18: 20, 290118: 1 if os.environ.get("CLVR_NIGHTLY") else 5}
"""By seed: one answer of so many is made. All of the held-out ones each night; `benchmarks/chaos.py` makes more."""
COUNTS = {"words": 7000, "logprobs": 2000, "local": 1000}
FORMAT = {"answers": [{"question": 1, "answer": ANY_ANSWER}]}
THING = re.compile(r"thing (\d+)")
SCHEMA = server._answers_schema([1, 2, 3])

Truth = list[str]
"""The right verdict on each question."""


class Case(NamedTuple):
    """A reply in words. finished: False if the server says that it was cut."""

    text: str
    right: Truth
    finished: bool = True


def some_answers(draw: random.Random) -> list[str]:
    return [draw.choice(("yes", "no", "no", "unsure")) for _ in range(draw.randint(1, 5))]


def states(answers: Sequence[str]) -> Truth:
    return [STATES.get(answer, "error") for answer in answers]


def elements(answers: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"question": number, "answer": answer} for number, answer in enumerate(answers, 1)]


def written(draw: random.Random, answers: Sequence[Any]) -> str:
    """The object in one of the layouts that models write."""
    listed = elements(answers)
    draw.shuffle(listed)
    reply: dict[str, Any] = {"answers": listed}
    if draw.random() < 0.2:
        reply = {"thoughts": 'The cup {red} is "there", isn\'t it?', **reply}
    return json.dumps(reply, indent=draw.choice((None, None, 1, 4)))


def prose(draw: random.Random) -> str:
    """Never empty, and with a letter at each end, so that objects around it do not stand side by side."""
    words = ["Yes,", "no.", "All goals are met!", "{cup}", "\u2713", "\u202eyes\u202c", "it's", "[1]", "100 %", "\n\n"]
    return f" So {' '.join(draw.choices(words, k=draw.randint(0, 6)))} thus: "


def plain(draw: random.Random) -> Case:
    answers = some_answers(draw)
    return Case(written(draw, answers), states(answers))


def wrapped(draw: random.Random) -> Case:
    answers = some_answers(draw)
    text = written(draw, answers)
    wrap = draw.choice(
        [
            "```json\n{}\n```",
            "\ufeff  {}\n\n",
            "<think>" + prose(draw) + written(draw, ["yes"] * len(answers)) + "</think>{}",
            prose(draw) + written(draw, ["yes"] * len(answers)) + "</think>\n{}",
            prose(draw) + "{}" + prose(draw),
            "{}" + prose(draw),
            "[{}]",
        ]
    )
    return Case(wrap.replace("{}", text), states(answers))


def echoed(draw: random.Random) -> Case:
    answers = some_answers(draw)
    format_ = draw.choice(
        [
            json.dumps(FORMAT),
            json.dumps(SCHEMA),
            '{"answers": [{"question": 1, "answer": "yes"}, ...]}',
            written(draw, ["yes"] * len(answers)),
            written(draw, ["yes"]),
            written(draw, ["yes"] * 9),
            written(draw, ["yes"] * len(answers))[:-1] + ",}",
        ]
    )
    between = draw.choice((prose(draw), "\nMy answer: ", "\n```\nI answer:\n```json\n", "<think>hm</think>"))
    return Case(f"The format is {format_}{between}{written(draw, answers)}", states(answers))


def echoed_after(draw: random.Random) -> Case:
    answers = some_answers(draw)
    return Case(f"{written(draw, answers)}\nas in the format {json.dumps(FORMAT['answers'])}", states(answers))


def raised(draw: random.Random) -> Case:
    answers = some_answers(draw)
    right = [state if state == "met" else "error" for state in states(answers)]
    return Case(f"{written(draw, answers)}{prose(draw)}{written(draw, ['yes'] * len(answers))}", right)


def lowered(draw: random.Random) -> Case:
    answers = some_answers(draw)
    return Case(
        f"{written(draw, answers)}{prose(draw)}{written(draw, ['no'] * len(answers))}", ["unmet"] * len(answers)
    )


def said_in_part(draw: random.Random) -> Case:
    """The last object leaves questions out that an example answers."""
    answers = some_answers(draw)
    kept = draw.randint(0, len(answers) - 1)
    right = [*states(answers[:kept]), *["error"] * (len(answers) - kept)]
    return Case(f"The format is {written(draw, ['yes'] * 5)}, so: {written(draw, answers[:kept])}", right)


def cut(draw: random.Random) -> Case:
    answers = some_answers(draw)
    text = written(draw, answers)
    place = draw.randrange(len(text))
    whole = place > text.rindex("]")
    return Case(text[:place], states(answers) if whole else ["error"] * len(answers), draw.random() < 0.3)


def cut_after_an_example(draw: random.Random) -> Case:
    """Anywhere: in the example, behind it, in the answer."""
    answers = some_answers(draw)
    answer = written(draw, answers)
    text = f"The format is {written(draw, ['yes'] * len(answers))}{prose(draw)}{answer}"
    place = draw.randrange(len(text))
    whole = place > text.rindex("]")
    return Case(text[:place], states(answers) if whole else ["error"] * len(answers), finished=False)


def cut_answer_of_a_server_that_hides_it(draw: random.Random) -> Case:
    answers = some_answers(draw)
    answer = written(draw, answers)
    place = draw.randrange(answer.index('"') + 1, answer.rindex("]"))
    text = f"The format is {written(draw, ['yes'] * len(answers))}{prose(draw)}{answer[:place]}"
    return Case(text, ["error"] * len(answers))


def run_on(draw: random.Random) -> Case:
    """A small model that does not stop."""
    answers = some_answers(draw)
    return Case(written(draw, answers) + "\nThank you. " * draw.randint(1, 300), states(answers), finished=False)


def beside(draw: random.Random) -> str:
    return draw.choice(("", " ", "\n", ",\n", "\n```\n```json\n"))


def doubled(draw: random.Random) -> Case:
    answers = some_answers(draw)
    return Case(beside(draw).join(written(draw, answers) for _ in range(draw.randint(2, 4))), states(answers))


def contradictory(draw: random.Random) -> Case:
    answers = some_answers(draw)
    others = [draw.choice(tuple(STATES)) for _ in answers]
    right = ["error" if one != other else STATES[one] for one, other in zip(answers, others)]
    return Case(f"{written(draw, answers)}{beside(draw)}{written(draw, others)}", right)


def contradictory_inside(draw: random.Random) -> Case:
    answers = some_answers(draw)
    others = [draw.choice(tuple(STATES)) for _ in answers]
    right = ["error" if one != other else STATES[one] for one, other in zip(answers, others)]
    listed = [*elements(answers), *elements(others)]
    draw.shuffle(listed)
    return Case(json.dumps({"answers": listed}), right)


def duplicate_keys(draw: random.Random) -> Case:
    answers = some_answers(draw)
    place = draw.randrange(len(answers))
    whole = json.dumps({"answers": elements(answers)})
    mine = json.dumps(elements(answers)[place])
    right = states(answers)
    kind = draw.choice(("answer", "question", "list", "escaped"))
    if kind == "list":
        twice = '{"answers": ' + json.dumps(elements(["yes"] * len(answers))) + ", " + whole[1:]
        return Case(twice, ["error"] * len(answers))
    key = {"answer": '"answer": "yes"', "escaped": '"\\u0061nswer": "yes"', "question": '"question": 99'}[kind]
    end = draw.choice((f"{mine[:-1]}, {key}}}", f"{{{key}, {mine[1:]}"))
    right[place] = "error"
    return Case(whole.replace(mine, end), right)


def wrong_types(draw: random.Random) -> Case:
    answers: list[Any] = some_answers(draw)
    listed: list[Any] = elements(answers)
    right, place = states(answers), draw.randrange(len(answers))
    right[place] = "error"
    number = place + 1
    bad = [None, True, 1, 0.9, ["yes"], {"yes": True}, "", "y", "yes no", "met", "true", "YES!!", "not yes", "<yes>"]
    listed[place] = draw.choice(
        [
            {"question": number, "answer": draw.choice(bad)},
            {"question": draw.choice([str(number), float(number), None, [number], number == 1]), "answer": "yes"},
            {"answer": "yes"},
            {"question": number},
            "yes",
            None,
            [number, "yes"],
        ]
    )
    return Case(json.dumps({"answers": listed}), right)


def wrong_whole(draw: random.Random) -> Case:
    answers = ["yes"] * draw.randint(1, 5)
    value = draw.choice(
        [
            {"answers": dict(enumerate(answers))},
            {"answers": "yes"},
            {"answers": None},
            {"answer": elements(answers)},
            {"Answers": elements(answers)},
            elements(answers),
            {"met": True},
            "yes",
        ]
    )
    text = json.dumps(value)
    lead = draw.choice(("", prose(draw)))
    return Case(lead + text, ["error"] * len(answers))


def wrong_ids(draw: random.Random) -> Case:
    answers = some_answers(draw)
    listed, right = elements(answers), states(answers)
    strange = [{"question": number, "answer": "yes"} for number in draw.choices((0, -1, 99, 10**30), k=3)]
    if draw.random() < 0.5:
        place = draw.randrange(len(answers))
        right[place], listed[place] = "error", strange.pop()
    listed += strange
    draw.shuffle(listed)
    return Case(json.dumps({"answers": listed}), right)


def unicode_(draw: random.Random) -> Case:
    looks = [
        "y\u0435s",
        "\uff59\uff45\uff53",
        "yes\u200b",
        "\u202eyes",
        "ye\u017f\u0301",
        "y\u00e9s",
        "\ud83d\udc4d",
        "yes\u0000",
    ]
    answers = [draw.choice((*STATES, draw.choice(looks))) for _ in range(draw.randint(1, 5))]
    text = json.dumps({"answers": elements(answers)}, ensure_ascii=draw.random() < 0.5)
    text = text.replace('"question"', draw.choice(('"question"', '"\\u0071uestion"')))
    return Case(draw.choice(("", "\u00a0", "\ufeff")) + text, states(answers))


def spelled(draw: random.Random) -> Case:
    """As models spell the three words."""
    answers = some_answers(draw)
    spellings = ("{}", " {} ", "{}.", "'{}'", "**{}**")
    said = [
        draw.choice((str.upper, str.title, str.lower))(draw.choice(spellings).replace("{}", one)) for one in answers
    ]
    return Case(json.dumps({"answers": elements(said)}), states(answers))


def huge(draw: random.Random) -> Case:
    answers = some_answers(draw)
    text = written(draw, answers)
    padding = draw.choice((" ", "\n", "All goals are met. ", "{x} ")) * 1500
    kind = draw.choice(("before", "after", "string", "too long", "too many"))
    if kind == "before":
        return Case(padding + text, states(answers))
    if kind == "after":
        return Case(text + padding, states(answers))
    if kind == "string":
        return Case('{"note": ' + json.dumps(padding) + ", " + text[text.index("{") + 1 :], states(answers))
    if kind == "too long":
        return Case(text + " " * MAX_REPLY, ["error"] * len(answers))
    return Case(prose(draw).join([written(draw, ["yes"])] * 120) + text, ["error"] * len(answers))


def nested(draw: random.Random) -> Case:
    answers = ["yes"] * draw.randint(1, 5)
    text = json.dumps({"answers": elements(answers)})
    nest = draw.choice(
        (
            f'{{"result": {text}}}',
            f'{{"note": {json.dumps(text)}}}',
            f'{{"answers": [{text}]}}',
            f'{{"answers": {"[" * 3000}{"]" * 3000}}}',
            '{"answers": [{"question": ' * 800,
            f'{{"a": {{"b": [{text}, {text}]}}}}',
        )
    )
    return Case(nest, ["error"] * len(answers))


def not_json(draw: random.Random) -> Case:
    """Another language than JSON, alone or behind an example."""
    answers = some_answers(draw)
    text = json.dumps({"answers": elements(answers)})
    broken = draw.choice(
        (
            text.replace('"', "'"),
            text.replace('"answers"', "answers"),
            text.replace('"question": 1', '"question": NaN'),
            text.replace('"question": 1', '"question": 1e999'),
            text.replace('"question": 1', '"question": 01'),
            text.replace('"question": 1', '"question": 1 "of": 2'),
            text.replace(": 1", "= 1"),
            text.replace('"answer": "', '"answer": the "', 1),
        )
    )
    lead = draw.choice(("", f"The format is {written(draw, ['yes'] * len(answers))}{prose(draw)}"))
    return Case(lead + broken, ["error"] * len(answers))


def trailing_commas(draw: random.Random) -> Case:
    answers = some_answers(draw)
    text = json.dumps({"answers": elements(answers)}).replace("}]", "},]").replace("]}", "], }")
    return Case(draw.choice(("", f"The format is {written(draw, ['yes'] * 3)}, so ")) + text, states(answers))


def no_answer(draw: random.Random) -> Case:
    text = draw.choice(("", " ", "Yes", "yes yes yes", "null", "[]", "{}", "<think>yes", prose(draw), "{", '{"'))
    return Case(text, ["error"] * draw.randint(1, 5))


WORDS: tuple[Callable[[random.Random], Case], ...] = (
    *(plain, wrapped, echoed, echoed_after, raised, lowered, said_in_part, cut, cut_after_an_example),
    *(cut_answer_of_a_server_that_hides_it, run_on, doubled, contradictory, contradictory_inside, duplicate_keys),
    *(wrong_types, wrong_whole, wrong_ids, unicode_, spelled, huge, nested, not_json, trailing_commas, no_answer),
)


class Shares(NamedTuple):
    """Probabilities that are a distribution, with a verdict that is not near a threshold."""

    yes: float
    no: float
    rest: float
    right: str


def distribution(draw: random.Random) -> Shares:
    while True:
        parts = [draw.random() ** draw.choice((1, 1, 5)) for _ in range(3)]
        yes, no, rest = (part / sum(parts) for part in parts)
        if all(abs(value - border) > 1e-3 for value, border in ((yes, 0.65), (no, 0.65), (yes + no, 0.2))):
            break
    right = "met" if yes > 0.65 else "unmet" if no > 0.65 else "unsure" if yes + no > 0.2 else "error"
    return Shares(yes, no, rest, right)


def alternatives(draw: random.Random) -> tuple[list[tuple[Any, Any]], str]:
    """Tokens with their log probabilities, and the right verdict."""
    found = distribution(draw)
    part = draw.random()
    yes, no = draw.choice(("Yes", "yes", "\u0120Yes", "\u2581YES")), draw.choice(("No", " no", "NO."))
    listed: list[tuple[Any, Any]] = [
        (yes, math.log(found.yes * part)),
        ("yes", math.log(found.yes * (1 - part))),
        (no, math.log(found.no)),
        ("The", math.log(found.rest)),
    ]
    draw.shuffle(listed)
    if draw.random() < 0.4:
        return listed, found.right
    if draw.random() < 0.3:  # what real servers write
        odd = draw.choice([("<s>", -math.inf), ("Maybe", -9999.0), ("\ud83d", -40.0), ("x", None), ("", -50)])
        return [*listed, odd], found.right
    place = next(index for index, (token, _) in enumerate(listed) if token in (yes, no))
    token, number = listed[place]
    bad = [math.nan, math.inf, 7.0, 0.5, str(number), True, False, None, [number], {}, 10**400]
    listed[place] = (token, draw.choice(bad))
    if draw.random() < 0.3:  # sums
        listed[place] = (token, number)
        listed += [(draw.choice((yes, no, "The")), draw.uniform(-2.9, 0.0))]
    elif draw.random() < 0.2:
        listed[place] = (draw.choice((5, None, ["Yes"], True)), number)
    return listed, "error"


def logits(draw: random.Random) -> tuple[list[float], str]:
    """Of tokens Yes, yes, No, no and four others, and the right verdict."""
    found = distribution(draw)
    parts = [draw.random() for _ in range(3)]
    shares = [found.yes * parts[0], found.yes * (1 - parts[0]), found.no * parts[1], found.no * (1 - parts[1])]
    shares += [found.rest * parts[2], found.rest * (1 - parts[2]), 0.0, 0.0]
    shift = draw.choice((0.0, 30.0, -80.0))
    values = [math.log(share) + shift if share else -math.inf for share in shares]
    if draw.random() < 0.6:
        return values, found.right
    if draw.random() < 0.2:
        return [-math.inf] * 8, "error"
    values[draw.randrange(8)] = draw.choice((math.nan, math.inf))
    return values, "error"


class Replayed:
    """Answers each request of a ServerVlm from what is set: `words` for all, `tokens` for the question asked for.

    plain: as a server that knows neither probabilities nor schemas.
    """

    def __init__(self) -> None:
        self.words, self.finished, self.tokens, self.plain = "", True, [], False

    def __call__(self, path: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        if self.plain and (body.get("logprobs") or "response_format" in body):
            raise ServerFailure("unknown field", 400)
        choice: dict[str, Any] = {"finish_reason": "stop" if self.finished else "length"}
        if body.get("logprobs"):
            text = body["messages"][1]["content"][-1]["text"]
            top = self.tokens[int(THING.search(text)[1]) - 1]
            listed = [{"token": token, "logprob": logprob} for token, logprob in top]
            return {"choices": [{**choice, "logprobs": {"content": [{"top_logprobs": listed}]}}]}
        return {"choices": [{**choice, "message": {"content": self.words}}]}


class Wrong(NamedTuple):
    class_: str
    said: str
    judged: Truth
    right: Truth


def judged(vlm: Vlm, count: int) -> Truth:
    goals = [Goal(f"g{number}", f"thing {number}") for number in range(1, count + 1)]
    return [verdict.state for verdict in judge(vlm, grey(), goals).verdicts]


def in_words(draw: random.Random, replayed: Replayed, count: int) -> Iterator[Wrong]:
    vlm = ServerVlm(Endpoint("http://127.0.0.1:9/v1", "eye", parallel=1))
    replayed.plain, replayed.words = True, json.dumps({"answers": [{"question": 1, "answer": "yes"}]})
    assert judged(vlm, 1) == ["met"], "found out that it is to ask in words alone"
    for index in range(count):
        make = WORDS[index % len(WORDS)]
        case = make(draw)
        replayed.words, replayed.finished = case.text, case.finished
        yield Wrong(make.__name__, case.text, judged(vlm, len(case.right)), case.right)


def by_logprobs(draw: random.Random, replayed: Replayed, count: int) -> Iterator[Wrong]:
    vlm = ServerVlm(Endpoint("http://127.0.0.1:9/v1", "eye", parallel=1))
    replayed.words, replayed.plain = "I cannot say.", False
    for _ in range(count):
        made = [alternatives(draw) for _ in range(draw.randint(1, 4))]
        replayed.tokens = [listed for listed, _ in made]
        right = [state for _, state in made]
        yield Wrong("logprobs", repr(replayed.tokens), judged(vlm, len(made)), right)


def in_this_process(draw: random.Random, count: int) -> Iterator[Wrong]:
    vlm = LocalVlm.__new__(LocalVlm)
    vlm.name, vlm.settings, vlm._lock = "eye", SimpleNamespace(image_side=8), threading.Lock()
    vlm._yes, vlm._no = [0, 1], [2, 3]
    rows: list[torch.Tensor] = []
    vlm._prompter = SimpleNamespace(shared=lambda asked: ([], [[0]] * len(asked)))
    vlm._reader = SimpleNamespace(
        read=lambda prompt: None, continuations=lambda run, tails: rows, finish=lambda run: None, forget=lambda: None
    )
    for _ in range(count):
        made = [logits(draw) for _ in range(draw.randint(1, 4))]
        rows[:] = [torch.tensor(values) for values, _ in made]
        yield Wrong("local", repr(made), judged(vlm, len(made)), [state for _, state in made])


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
@pytest.mark.parametrize("path", COUNTS)
def test_no_wrong_met_and_no_lost_answer(path, seed, monkeypatch):
    replayed, draw = Replayed(), random.Random(f"{path} {seed}")
    count = COUNTS[path] // SHARES[seed]
    monkeypatch.setattr(server.Client, "ask", replayed.__call__)
    found = {
        "words": lambda: in_words(draw, replayed, count),
        "logprobs": lambda: by_logprobs(draw, replayed, count),
        "local": lambda: in_this_process(draw, count),
    }[path]()
    wrong, seen = [], Counter()
    for case in found:
        seen.update(case.right)
        if case.judged != case.right:
            wrong.append(case)
    assert min(seen[state] for state in ("met", "unmet", "unsure", "error")) > 100 / SHARES[seed], seen
    shown = "\n".join(f"{case.class_}: {case.judged}, right {case.right}: {case.said[:600]}" for case in wrong[:8])
    assert not wrong, f"{len(wrong)} of {Counter(case.class_ for case in wrong)}\n{shown}"
