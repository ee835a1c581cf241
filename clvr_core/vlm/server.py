"""A vision-language model behind an OpenAI-compatible server: vLLM, SGLang, Ollama, LM Studio, llama.cpp and their
like.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import Away, BadInput, JudgeFailure
from ..http_json import Client, Limits, ServerFailure, address
from ..protocols import Decision, Message, Picture, Question, Reply
from ..text import without_folder
from .answers import first_token, loops, reply_of, thinks, tokens_of
from .decisions import DECIDE, LEAST_MASS, ONE_WORD, weigh, word
from .dialect import NO_THOUGHT, OF_CHAT, OF_DECISIONS, TOP, Dialect, chat_model, family, with_words
from .encoded import EncodedPictures, Form
from .replies import Malformed, in_words, objects_in, settled

IN_WORDS = {"yes": 0.9, "no": 0.1, "unsure": 0.5}
"""Probability of yes that stands for an answer in words, from a server without probabilities."""
REFUSED = (400, 422)
"""HTTP statuses of a server that does not know a setting."""
SIDE_BY_SIDE = "The images stand side by side in one picture, the first at its left."
EXACT_COLORS = re.compile(r"#[0-9a-f]{3}(?:[0-9a-f]{3})?\b|\b(?:rgb|hsl|hsv|cmyk|pantone|ral)\b|\bhex\b", re.IGNORECASE)
"""In words about colors that JPEG would change: with one in the request its pictures are sent as PNG."""
GAP = 16
"""Pixels between pictures that stand side by side."""
ANY_ANSWER = "yes, no or unsure"
"""Stands for an answer in the format that the model is shown, so that a format that it repeats answers nothing."""
_NO_PROBABILITIES = Decision(None, "the server tells no probabilities")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served. Read from the configuration of this machine, never from a workflow.

    url: up to and including /v1.
    model: the server's name of it; empty takes the first that the server lists.
    key_variable: the environment variable that holds the key; empty if there is no key.
    image_side: pixels of the longer side that pictures are scaled down to, at least 1.
    max_tokens: of a reply, at least 1.
    parallel: requests at the same time, at least 1.
    limits: of each request.
    picture: format that pictures of more than 512 pixels on a side are sent in: `jpeg` (quality 95) or `png`. A request
        that names a color by a code, as #e34234, sends PNG.
    urls: further addresses of the same model.
    extra: fields that are added to each request, in place of those of the same name.
    headers: sent with each request: name -> the environment variable that holds the value.
    """

    url: str
    model: str = ""
    key_variable: str = ""
    image_side: int = 1024
    max_tokens: int = 1536
    parallel: int = 4
    limits: Limits = field(default_factory=Limits)
    picture: Form = "jpeg"
    urls: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for url in (self.url, *self.urls):
            address(url)
        for name in ("image_side", "max_tokens", "parallel"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} of the server {self.url} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class _Answers:
    """answers: objects with question and answer. One that is not is nobody's answer, and leaves the others theirs."""

    answers: tuple[Any, ...]


class ServerVlm:
    """A `Vlm` on a server. Replies are greedy and constrained by JSON schema; decisions are the probabilities of Yes
    and No at the first token.

    What a server lacks is found out once, by asking otherwise when it refuses: see `Dialect`. A schema that it refuses
    goes into the prompt, and one that it does not hold to as well; without probabilities all questions are answered in
    one JSON reply. `check` is called while waiting. Neither the name nor a failure holds the
    address, since both go into trajectories. Raises BadInput if no model is named and the server lists none, and Away
    where no request at all gets an answer.

    most: pictures that it takes at once; more are shown side by side in one. None for any number.
    """

    def __init__(self, endpoint: Endpoint, check: Callable[[], None] = lambda: None) -> None:
        self.endpoint, self.check = endpoint, check
        self._client = Client(
            endpoint.url, endpoint.key_variable, endpoint.limits, urls=endpoint.urls, headers=endpoint.headers
        )
        self.model = endpoint.model or self._first_listed()
        self.name = without_folder(self.model)  # llama.cpp and transformers serve name a model by its path
        self.most: int | None = None
        self._encoded = EncodedPictures(endpoint.image_side)
        self._probabilities, self._dialect = True, Dialect()
        self._worded = False
        self._tried: set[str] = set()  # what was asked otherwise already, or need not be
        self._refused: set[str] = set()  # families of schemas
        self._search = threading.RLock()

    @property
    def parallel(self) -> int:
        return self.endpoint.parallel

    @property
    def tells_probabilities(self) -> bool:
        """Whether it has told probabilities whenever it was asked for them; else verdicts are words."""
        return self._probabilities

    @property
    def thinks(self) -> bool:
        """Whether the model was found to think before it answers, and could not be asked not to."""
        return "thought" in self._tried and not self._dialect.more

    @property
    def dialect(self) -> Dialect:
        """What is sent otherwise than first tried."""
        return self._dialect

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        shown = [(message.role, *self._shown(message.text, message.images)) for message in messages]
        kind = self._kind(text for _, text, _ in shown)
        said = [
            {"role": role, "content": _content(text, [self._image(each, kind) for each in images])}
            for role, text, images in shown
        ]
        # A reply that was malformed: perhaps the server does not hold it to the schema, so say that in words from now on.
        self._worded = self._worded or (bool(messages) and messages[-1].data.get("task") == "again")
        return self._structured(said, schema, self.check)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        questions = [replace(question, text=self._shown(question.text, images)[0]) for question in questions]
        kind, check, before = self._kind(each.text for each in questions), _Shared(self.check), self._dialect
        pictures = [self._image(each, kind) for each in self._shown("", images)[1]]
        found: list[Decision | None] = [_NO_PROBABILITIES] * len(questions)
        if self._probabilities:
            with ThreadPoolExecutor(self.endpoint.parallel) as pool:
                asked = [pool.submit(self._likelihood, pictures, question, check) for question in questions]
            if check.ended is not None:
                raise check.ended
            found = self._unless_away([each.result() for each in asked])
        if open_ := [index for index, decision in enumerate(found) if decision in (None, _NO_PROBABILITIES)]:
            none_at_all = all(decision is _NO_PROBABILITIES for decision in found)
            try:
                told = self._in_words(pictures, [questions[index] for index in open_], check)
            except (JudgeFailure, Away) as error:
                if len(open_) == len(questions):
                    raise
                told = [Decision(None, str(error))] * len(open_)  # the others keep their answers
            for index, decision in zip(open_, told):
                found[index] = decision
            # Nor was the request refused for another fault: then the words had failed too, or gone otherwise.
            if none_at_all and self._dialect == before:
                self._probabilities = False
        return [decision or _NO_PROBABILITIES for decision in found]

    def _unless_away(self, found: list[Decision | ServerFailure | None]) -> list[Decision | None]:
        """Return the answers, where a question that the server did not hear has none. Raises Away if it heard none."""
        unheard = [each for each in found if isinstance(each, ServerFailure)]
        if len(unheard) == len(found) and unheard:
            raise self._away(unheard[0])
        return [Decision(None, str(each)) if isinstance(each, ServerFailure) else each for each in found]

    def _likelihood(
        self, pictures: Sequence[dict], question: Question, check: Callable[[], None]
    ) -> Decision | ServerFailure | None:
        """Decide one question by `weigh`; None if the reply begins with neither word, as that of a model that thinks
        first; the failure if the server is away.
        """
        said = [
            {"role": "system", "content": DECIDE},
            {"role": "user", "content": _content(f"{question.text}\n{ONE_WORD}", pictures, True)},
        ]
        try:
            body = self._body(said, max_tokens=1, logprobs=True, top_logprobs=TOP)
            answer = self._ask_otherwise("decisions", OF_DECISIONS, body, check)
            if thinks(answer):
                answer = self._without_thought(body, check) or answer
        except ServerFailure as error:
            if error.away:
                return error
            return _NO_PROBABILITIES if error.status in REFUSED else Decision(None, str(error))
        except JudgeFailure as error:
            return Decision(None, str(error))
        tokens = tokens_of(answer)
        try:
            first = first_token(answer)
        except JudgeFailure as error:
            return Decision(None, str(error), tokens)
        if first is None:
            return _NO_PROBABILITIES
        yes, no = (sum(share for word, share in first if word == wanted) for wanted in ("yes", "no"))
        return None if yes + no < LEAST_MASS else weigh(yes, no, tokens)

    def _in_words(
        self, pictures: Sequence[dict], questions: Sequence[Question], check: Callable[[], None]
    ) -> list[Decision]:
        numbers = list(range(1, len(questions) + 1))
        listed = "\n".join(f"{number}. {question.text}" for number, question in zip(numbers, questions))
        shape = json.dumps({"answers": [{"question": 1, "answer": ANY_ANSWER}]})
        request = (
            f"Answer each question about what is shown, as JSON {shape}, with one entry for each question.\n{listed}"
        )
        said = [{"role": "user", "content": _content(request, pictures, pictures_first=True)}]
        reply = self._structured(said, _answers_schema(numbers), check)
        try:
            runs = objects_in(reply.text, reply.finished, _Answers)
        except Malformed as error:
            raise JudgeFailure(f"{self.name}: {error}") from error
        told = settled([[_told(each) for each in run] for run in runs])
        share = reply.tokens // len(questions)
        decisions = (Decision(told.get(number), "", share) for number in numbers)
        no_answer = "the question was not answered, or not in one way"
        return [replace(each, evidence=no_answer) if each.yes is None else each for each in decisions]

    def _structured(self, messages: list[dict], schema: Mapping[str, Any], check: Callable[[], None]) -> Reply:
        limit, kind, spent = self.endpoint.max_tokens, family(schema), 0
        words, refused = with_words(messages, in_words(schema)), False
        if kind not in self._refused:
            shape = {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}
            body = self._body(words if self._worded else messages, max_tokens=limit, response_format=shape)
            try:
                reply = reply_of(self._ask(body, check), limit)
                if not loops(reply):
                    return reply
                spent = reply.tokens
            except ServerFailure as error:
                if error.status not in REFUSED:
                    raise self._failed(error) from error
                # If the schema is not at fault, the same request without it fails too, with the error of the server.
                refused = True
        before = self._dialect
        try:
            body = self._body(words, max_tokens=limit)
            kind_of_chat = "chat with a system" if _has_system(body) else "chat"
            answer = self._ask_otherwise(kind_of_chat, OF_CHAT, body, check)
        except ServerFailure as error:
            raise self._failed(error) from error
        if refused and self._dialect == before:
            self._refused.add(kind)
        reply = reply_of(answer, limit)
        return replace(reply, tokens=reply.tokens + spent)

    def _body(self, messages: list[dict], **settings: Any) -> dict[str, Any]:
        return {"model": self.model, "messages": messages, "temperature": 0, **settings}

    def _ask_otherwise(
        self, kind: str, changes: Sequence[Mapping[str, Any]], body: dict[str, Any], check: Callable[[], None]
    ) -> dict[str, Any]:
        """Ask, and if that is refused once with each of the changes, then with more and more of them together; keep what
        is taken. Once a request of this kind was answered, or refused in every way, it is not tried otherwise again.
        """
        dialect = self._dialect
        try:
            answer = self._ask(body, check)
            self._tried.add(kind)
            return answer
        except ServerFailure as error:
            if error.status not in REFUSED or kind in self._tried:
                raise
            refused = error
        with self._search:
            if self._dialect != dialect:  # another thread has found one meanwhile
                return self._ask(body, check)
            if kind in self._tried:
                raise refused
            self._tried.add(kind)
            asked = [dialect.of(body)]
            for dialect in self._dialect.others(changes):
                if (said := dialect.of(body)) in asked:
                    continue
                asked.append(said)
                if (answer := self._unless_refused(body, check, dialect)) is not None:
                    self._dialect = dialect
                    return answer
        raise refused

    def _unless_refused(
        self, body: dict[str, Any], check: Callable[[], None], dialect: Dialect
    ) -> dict[str, Any] | None:
        """Ask in this dialect; None if the server refuses the request as such."""
        try:
            return self._ask(body, check, dialect)
        except ServerFailure as error:
            if error.status not in REFUSED:
                raise
            return None

    def _without_thought(self, body: dict[str, Any], check: Callable[[], None]) -> dict[str, Any] | None:
        """Ask a model that thinks first not to, in each of the known ways, and keep the one that helps."""
        with self._search:
            if "thought" in self._tried:
                return None
            self._tried.add("thought")
            for more in NO_THOUGHT:
                dialect = replace(self._dialect, more=more)
                answer = self._unless_refused(body, check, dialect)
                if answer is not None and not thinks(answer) and first_token(answer):
                    self._dialect = dialect
                    return answer
        return None

    def _ask(self, body: dict[str, Any], check: Callable[[], None], dialect: Dialect | None = None) -> dict[str, Any]:
        said = (dialect or self._dialect).of(body) | dict(self.endpoint.extra)
        for last in (False, True):
            try:
                answer = self._client.ask("/chat/completions", said, check=check)
                # A request without a system message says nothing of those that have one.
                self._tried |= {"chat", "chat with a system"} if _has_system(body) else {"chat"}
                return answer
            except ServerFailure as error:
                if error.timed_out and not last:
                    continue
                raise self._client.unnamed(error) from error
        raise AssertionError("unreachable")

    def _failed(self, error: ServerFailure) -> JudgeFailure | Away:
        return self._away(error) if error.away else JudgeFailure(str(error))

    def _away(self, error: ServerFailure) -> Away:
        return Away(f"{self.name} is away: {error}", str(error))

    def _first_listed(self) -> str:
        try:
            listed = self._client.ask("/models", check=self.check).get("data")
        except ServerFailure as error:
            raise BadInput(
                f"no model is named for the server {self.endpoint.url}, and it lists none: {error}"
            ) from error
        items = listed if isinstance(listed, list) else []
        names = [
            item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str) and item["id"]
        ]
        if not names:
            raise BadInput(
                f"no model is named for the server {self.endpoint.url}, and it lists none; load a model there or name one"
            )
        return chat_model(names)

    def _shown(self, text: str, pictures: Sequence[Picture]) -> tuple[str, Sequence[Picture]]:
        """Return words and pictures as the server takes them."""
        if self.most is None or len(pictures) <= self.most:
            return text, pictures
        return f"{SIDE_BY_SIDE}\n{text}", (_side_by_side(pictures),)

    def _kind(self, words: Iterable[str]) -> Form:
        """Return the format of large pictures in a request of these words."""
        return "png" if any(map(EXACT_COLORS.search, words)) else self.endpoint.picture

    def _image(self, picture: Picture, kind: Form) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": self._encoded.url(picture, kind)}}


def _side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Put the pictures in a row, GAP white pixels apart, at the top of the tallest."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + GAP * (len(pictures) - 1)
    row, left = np.full((height, width, 3), 255, np.uint8), 0
    for picture in pictures:
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return row


def _has_system(body: Mapping[str, Any]) -> bool:
    return body["messages"][0]["role"] == "system"


class _Shared:
    """The check of several requests of one call: an error in one is raised in all, since a cancel is reported only
    once.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check, self._guard = check, threading.Lock()
        self.ended: BaseException | None = None

    def __call__(self) -> None:
        with self._guard:
            if self.ended is None:
                try:
                    self._check()
                except BaseException as error:
                    self.ended = error
            if self.ended is not None:
                raise self.ended


def _content(text: str, pictures: Iterable[dict], pictures_first: bool = False) -> str | list[dict]:
    """Return the content of a message.

    Pictures first makes prompts about the same pictures share a prefix, which servers cache.
    """
    pictures, words = list(pictures), {"type": "text", "text": text}
    if not pictures:
        return text
    return [*pictures, words] if pictures_first else [words, *pictures]


def _answers_schema(numbers: Sequence[int]) -> dict[str, Any]:
    each = {
        "type": "object",
        "properties": {
            "question": {"type": "integer", "enum": list(numbers)},
            "answer": {"type": "string", "enum": list(IN_WORDS)},
        },
        "required": ["question", "answer"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": each, "minItems": len(numbers), "maxItems": len(numbers)}},
        "required": ["answers"],
        "additionalProperties": False,
    }


def _told(reply: _Answers) -> dict[int, float | None]:
    """Return the probability that stands for the answer to each question; None for two answers, and for one that is
    none of IN_WORDS.
    """
    told: dict[int, float | None] = {}
    for one in reply.answers:
        number, answer = (one.get("question"), one.get("answer")) if isinstance(one, dict) else (None, None)
        if answer == ANY_ANSWER:
            continue
        value = IN_WORDS.get(word(answer)) if isinstance(answer, str) and type(number) is int else None
        # A number of another type names its question too, but answers it in vain.
        if isinstance(number, str) and number.isdecimal() and len(number) < 9:
            number = int(number)
        if isinstance(number, (int, float)):
            told[int(number)] = value if told.get(int(number), value) == value else None
    return told
