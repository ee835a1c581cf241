"""What a controller wrote in a run, token by token, and how likely it was.

A run asks its controller several times. Where a request begins with all of the one before and its reply, as in one growing
conversation, both are one row of tokens; else each is a row of its own. Of a row only what the controller chose is
learnt from: not the requests, verdicts and pictures, and not what the schema left no choice about.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import JudgeFailure
from ..protocols import Decision, Message, Picture, Question, Reply
from ..vlm.local import Local, LocalVlm
from ..vlm.prefix import WORTH_KEEPING, Run, copy_of
from ..vlm.prompt import Prompt, common
from ..vlm.together import Together

Work = TypeVar("Work")
Done = TypeVar("Done")


@dataclass
class Said:
    """A request and the reply to it.

    tokens: of the reply, with the mark that ends it where the model chose that.
    chosen: places in `tokens` of those that the model chose, ascending; the schema left no choice about the others.
    allowed: for each of them the tokens that the schema allowed, packed bits of the vocabulary; None for all.
    """

    prompt: Prompt
    tokens: list[int]
    chosen: list[int]
    allowed: list[np.ndarray | None]


@dataclass
class Take:
    """What one rollout's controller says while it is sampled. chance: of its tokens; None for the likeliest ones."""

    chance: torch.Generator | None
    temperature: float = 1.0
    said: list[Said] = field(default_factory=list)
    choices: list[tuple[int, int, np.ndarray | None]] = field(default_factory=list)
    """Of the reply that is being written: place, token, what was allowed."""


@dataclass(frozen=True)
class Asking:
    """A request of one rollout, and what its controller has said."""

    messages: Sequence[Message]
    schema: Mapping[str, Any]
    take: Take


class SamplingVlm(LocalVlm):
    """A vision-language model whose replies are sampled and kept, within `taking`."""

    def __init__(self, model: Any, processor: Any, settings: Local) -> None:
        super().__init__(model, processor, settings)
        self._take: Take | None = None

    @contextmanager
    def taking(self, take: Take) -> Iterator[None]:
        self._take = take
        try:
            yield
        finally:
            self._take = None

    def forget(self) -> None:
        """Drop what was computed with earlier weights."""
        self._reader.forget()

    def chat_together(self, asked: Sequence[Asking]) -> list[Reply | JudgeFailure]:
        """Write the replies to several requests, the tokens of all in one pass a step. Returns each reply, or why there is
        none. They are those of one request after the other, but for the rounding of another order of sums."""
        with self._alone():
            prompts, writings = [], []
            runs: list[Run] = []
            for each in asked:
                document = self._grammars.start(each.schema)
                prompts.append(self._request(each.messages, None if document else each.schema))
                if runs and common([runs[-1].keys, prompts[-1].keys]) >= WORTH_KEEPING:
                    self._reader.keep(copy_of(runs[-1]))  # rollouts of a group begin alike
                runs.append(self._reader.read(prompts[-1]))
                writings.append(self._writing(runs[-1].logits, document))
            found: list[Reply | JudgeFailure | None] = [None] * len(asked)
            logits: dict[int, Any] = dict.fromkeys(range(len(asked)))
            together = Together(self.model, runs)
            while logits:
                pending: dict[int, list[int]] = {}
                for place, given in logits.items():
                    with self.taking(asked[place].take):
                        try:
                            pending[place] = writings[place].send(given)
                        except StopIteration as end:
                            tokens, finished = end.value
                            self.wrote(prompts[place], tokens)
                            text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
                            found[place] = Reply(text, len(prompts[place]) + len(tokens), finished)
                        except JudgeFailure as failure:
                            found[place] = failure
                live = list(logits)
                together.leave([row for row, place in enumerate(live) if place not in pending])
                if not pending:
                    break
                self._checked()
                logits = dict(zip(pending, together.extend(list(pending.values()))))
            for run in runs:
                self._reader.finish(run)
        return [each if each is not None else JudgeFailure("no reply was written") for each in found]

    @property
    def croppable(self) -> bool:
        """Whether replies can be written together."""
        return self._reader.croppable

    def choose(self, logits: Tensor, allowed: np.ndarray | None, place: int) -> int:
        take = self._take
        if take is None or take.chance is None:
            token = super().choose(logits, allowed, place)
        else:
            shares = log_shares(logits[None], [allowed], take.temperature)[0].exp().cpu()
            token = int(torch.multinomial(shares, 1, generator=take.chance))
        if take is not None:
            take.choices.append((place, token, None if allowed is None else np.packbits(allowed)))
        return token

    def wrote(self, prompt: Prompt, tokens: Sequence[int]) -> None:
        if (take := self._take) is None:
            return
        written, choices = list(tokens), take.choices
        written += [token for place, token, _ in choices if place == len(tokens)]  # the mark that ends the reply
        take.said.append(
            Said(prompt, written, [place for place, _, _ in choices], [allowed for _, _, allowed in choices])
        )
        take.choices = []


class Meeting:
    """Where rollouts wait for one another, so that their replies are written together; an `Engine` of the rounds.

    most: replies that are written at the same time. Each rollout has a thread, of which one at a time runs; a batch is
    written once all have asked for a reply or have come to a drawing. So what is written together does not hang on how
    fast a thread is.
    """

    def __init__(self, vlm: SamplingVlm, most: int) -> None:
        self.vlm, self.most = vlm, most
        self._turn = threading.Condition()
        self._live = 0
        self._asked: dict[int, Asking] = {}
        self._said: dict[int, Reply | BaseException] = {}
        self._own = threading.local()

    def each(self, do: Callable[[Work], Done], work: Iterable[Work]) -> Iterator[Done]:
        listed = list(work)
        self._live = len(listed)

        def done(place: int, piece: Work) -> Done:
            self._own.place = place
            with self._turn:
                try:
                    return do(piece)
                finally:
                    self._live -= 1
                    self._write_if_all_wait()

        with ThreadPoolExecutor(max(1, len(listed))) as pool:
            yield from [each.result() for each in [pool.submit(done, *each) for each in enumerate(listed)]]

    def say(self, asking: Asking) -> Reply:
        """Return the reply, written together with those that the others wait for. Raises what its writing raised."""
        place: int = self._own.place
        self._asked[place] = asking
        self._write_if_all_wait()
        self._turn.wait_for(lambda: place in self._said)
        said = self._said.pop(place)
        if isinstance(said, BaseException):
            raise said
        return said

    def _write_if_all_wait(self) -> None:
        waiting = sorted(self._asked)
        if not waiting or len(waiting) < self._live:
            return
        for first in range(0, len(waiting), self.most):
            part = waiting[first : first + self.most]
            try:
                self._said |= zip(part, self.vlm.chat_together([self._asked[place] for place in part]))
            except BaseException as error:
                self._said |= dict.fromkeys(part, error)
        self._asked.clear()
        self._turn.notify_all()


@dataclass
class RolloutVlm:
    """A `Vlm` for the run of one rollout: a `SamplingVlm` that is shared with others, and what it says here. meeting: of the
    rollouts whose replies are written together; None to write each by itself."""

    vlm: SamplingVlm
    take: Take
    meeting: Meeting | None = None

    @property
    def name(self) -> str:
        return self.vlm.name

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        self.take.choices = []  # of a reply that came to nothing
        if self.meeting is not None:
            return self.meeting.say(Asking(messages, schema, self.take))
        with self.vlm.taking(self.take):
            return self.vlm.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return self.vlm.decide(images, questions)

    def room(self, messages: Sequence[Message]) -> int | None:
        return self.vlm.room(messages)


@dataclass
class Row:
    """Tokens in the order in which the controller reads and writes them: those of `prompt`, then `tail`.

    chosen: their places that it chose, ascending. allowed: as in `Said`.
    """

    prompt: Prompt
    tail: list[int]
    chosen: list[int]
    allowed: list[np.ndarray | None]

    @property
    def keys(self) -> tuple[Any, ...]:
        """What each token is; one of a picture is the picture's digest."""
        return (*self.prompt.keys, *self.tail)

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """Return the model's arguments for the whole row."""
        # Cloned: what was made in inference mode can be given no gradient for.
        given = {name: value.clone().to(device) for name, value in self.prompt.part(0, len(self.prompt)).items()}
        tail = torch.tensor([self.tail], dtype=torch.long, device=device)
        positions = given["position_ids"]
        following = torch.arange(len(self.tail), device=device) + self.prompt.next_position
        given["input_ids"] = torch.cat([given["input_ids"], tail], -1)
        given["position_ids"] = torch.cat([positions, following.expand(*positions.shape[:-1], -1)], -1)
        for name in self.prompt.typed:
            given[name] = torch.cat([given[name], torch.zeros_like(tail, dtype=given[name].dtype)], -1)
        return given


def rows_of(said: Iterable[Said]) -> list[Row]:
    """Return the rows of a rollout. A request that begins with a row's tokens, pictures included, goes on with it."""
    rows: list[Row] = []
    for each in said:
        chosen, allowed = [len(each.prompt) + place for place in each.chosen], list(each.allowed)
        before = rows[-1].keys if rows else None
        if before is not None and each.prompt.keys[: len(before)] == before:
            last = rows.pop()
            chosen, allowed = last.chosen + chosen, last.allowed + allowed
        rows.append(Row(each.prompt, each.tokens, chosen, allowed))
    return rows


def log_shares(logits: Tensor, allowed: Sequence[np.ndarray | None], temperature: float = 1.0) -> Tensor:
    """Return the log probabilities of P x vocabulary logits at this temperature, among the tokens that are allowed at
    each place: bool, vocabulary; None for all."""
    logits = logits.float() / temperature
    if any(each is not None for each in allowed):
        every = np.ones(logits.shape[1], bool)
        table = np.stack([every if each is None else each for each in allowed])
        logits = logits.masked_fill(~torch.from_numpy(table).to(logits.device), float("-inf"))
    return logits.log_softmax(-1)


def log_probabilities_of(model: nn.Module, row: Row, temperature: float = 1.0, everything: bool = False) -> Tensor:
    """Return the log probability of each token that the controller chose in the row, given all before it and what the
    schema allowed, at the temperature that it was sampled with.

    everything: of every token but the first, also of what the loop wrote and of the marks of pictures, for the arm
        without a mask.
    """
    device = next(model.parameters()).device
    given = row.inputs(device)
    ids = given["input_ids"][0]
    places = list(range(1, len(ids))) if everything else row.chosen
    known = dict(zip(row.chosen, row.allowed))
    at = torch.tensor(places, device=device)
    logits = model(**given, use_cache=False, logits_to_keep=at - 1).logits[0]
    if len(logits) == len(ids) != len(places):
        logits = logits[at - 1]  # a model that passes over logits_to_keep
    allowed = [
        None if (bits := known.get(place)) is None else np.unpackbits(bits)[: logits.shape[1]].astype(bool)
        for place in places
    ]
    return log_shares(logits, allowed, temperature).gather(-1, ids[at, None]).squeeze(-1)
