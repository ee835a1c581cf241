"""A vision-language model made of ComfyUI's CLIP object. Loading, offloading, progress and Cancel are ComfyUI's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import numpy as np
import torch
from PIL import Image

from ...clvr_core.errors import BadInput, JudgeFailure
from ...clvr_core.protocols import Decision, Message, Picture, Question, Reply
from ...clvr_core.text import one_line
from ...clvr_core.vlm.constrain import Document, Grammars
from ...clvr_core.vlm.decisions import DECIDE, ONE_WORD, weigh, word
from ...clvr_core.vlm.prompt import common
from ...clvr_core.vlm.replies import in_words
from ...clvr_core.vlm.server import IN_WORDS
from .batched_logits import last_logits
from .chat_templates import Turn, control_tokens, side_by_side, template_for

PIXELS = 1 << 20
"""Pixels of a picture at most, about a thousand tokens; a larger one is scaled down."""
PIXELS_A_TOKEN = 32 * 32
SIDE_BY_SIDE = "The images stand side by side in one picture, the first at its left."


class Blind(BadInput):
    """The CLIP object drops pictures, or cannot write text."""


@dataclass(frozen=True)
class Prompt:
    """A tokenized prompt.

    tokens: as ComfyUI's tokenizer returns them.
    parts: the entries of its only row: token ids, and dicts for pictures.
    cost: length in tokens, pictures counted by their size.
    """

    tokens: Any
    parts: tuple[Any, ...]
    cost: int


class ClipVlm:
    """A `Vlm` that runs on a CLIP object.

    Replies are decoded greedily, at most `reply_limit` tokens. With llguidance installed they cannot leave their
    schema; without it the prompt asks for the schema. A decision is made of the probabilities of Yes and No as the
    first token; all decisions of a call come from one forward pass if the model's class allows it. A picture counts as one
    token per 32 x 32 pixels.

    Raises Blind for a CLIP that drops pictures or writes no text.
    """

    def __init__(self, clip: Any, name: str, reply_limit: int = 1536) -> None:
        self.name, self.reply_limit, self._clip = name, reply_limit, clip
        tokenizer = getattr(clip.tokenizer, getattr(clip.tokenizer, "clip", ""), None)
        model = getattr(clip.cond_stage_model, getattr(clip.cond_stage_model, "clip", ""), None)
        self._writer = getattr(model, "transformer", None)
        vocabulary: Mapping[int, str] = getattr(tokenizer, "inv_vocab", {})
        template = template_for(vocabulary.values())
        if template is None or not hasattr(self._writer, "sample_token"):
            raise Blind("it is not a language model that writes")
        self._template = template.for_tokenizer(tokenizer)
        self._control = control_tokens(vocabulary.values())
        self._yes, self._no = (
            [token for token, text in vocabulary.items() if word(text) == wanted] for wanted in ("yes", "no")
        )
        config = self._writer.model.config
        self._stops = list(config.stop_tokens)
        fast = fast_tokenizer(tokenizer.tokenizer)
        self._grammars = None if fast is None else Grammars(fast, config.vocab_size, self._stops)
        self._batched = True
        trial = self._prompt([Message("user", "What is this?", (np.zeros((64, 64, 3), np.uint8),))])
        if not any(isinstance(part, dict) and part.get("type") == "image" for part in trial.parts):
            raise Blind("it drops pictures")

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        document = self._grammars.start(schema) if self._grammars else None
        if document is None:
            return self._reply(_append(messages, in_words(schema)))
        choice = _GrammarChoice(document, self._stops[-1])
        reply = self._reply(messages, choice)
        if choice.used:
            return reply
        # This version of ComfyUI does not sample through the hook: from now on the prompt asks for the schema.
        self._grammars = None
        return self._reply(_append(messages, in_words(schema)))

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        """See `Vlm`. Each question is decided by `weigh`."""
        if not questions:
            return []
        asked = [
            (Message("system", DECIDE), Message("user", f"{question.text}\n{ONE_WORD}", tuple(images)))
            for question in questions
        ]
        prompts = [self._prompt(messages, pictures_first=True) for messages in asked]
        decisions = self._decide_batched(prompts) if self._batched else None
        if decisions is None:
            self._batched = False
            decisions = [self._decide_one(prompt) for prompt in prompts]
        return decisions

    def _decide_batched(self, prompts: Sequence[Prompt]) -> list[Decision] | None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        keys = [[_key(part) for part in prompt.parts] for prompt in prompts]
        shared = min(common(keys), *(len(row) - 1 for row in keys))
        tails = [prompt.parts[shared:] for prompt in prompts]
        with self._failing():
            found = last_logits(self._clip, prompts[0], shared, tails)
        costs = [prompts[0].cost, *map(len, tails[1:])]  # the shared part is read once
        return None if found is None else [self._decision(logits, cost) for logits, cost in zip(found, costs)]

    def _decide_one(self, prompt: Prompt) -> Decision:
        captured: list[torch.Tensor] = []

        def capture(logits: torch.Tensor) -> int:
            captured.append(logits[0].float())
            return int(logits[0].argmax())

        ids = self._generate(prompt, 1, capture)
        if captured:
            return self._decision(captured[0], prompt.cost)
        answer = word(self._clip.decode(ids))
        evidence = "" if answer in IN_WORDS else "the answer does not begin with Yes or No"
        return Decision(IN_WORDS.get(answer), evidence, prompt.cost)

    def _decision(self, logits: torch.Tensor, cost: int) -> Decision:
        """Make a decision of the logits of the first token, a vector of the vocabulary's length."""
        probabilities = logits.softmax(-1)
        yes, no = float(probabilities[self._yes].sum()), float(probabilities[self._no].sum())
        return weigh(yes, no, cost)

    def _reply(self, messages: Sequence[Message], choose: Callable[[torch.Tensor], int] | None = None) -> Reply:
        prompt = self._prompt(messages)
        ids = self._generate(prompt, self.reply_limit, choose)
        finished = bool(ids) and ids[-1] in self._stops
        return Reply(self._clip.decode(ids[:-1] if finished else ids), prompt.cost + len(ids), finished)

    def _generate(self, prompt: Prompt, limit: int, choose: Callable[[torch.Tensor], int] | None = None) -> list[int]:
        with self._failing(), _sampled_by(self._writer, choose):
            ids = self._clip.generate(prompt.tokens, do_sample=False, max_length=limit, seed=0)
        return [int(token) for token in ids]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Raise errors of the forward pass as JudgeFailure: they are no verdict on the picture, and the run goes on."""
        try:
            yield
        except comfy.model_management.OOM_EXCEPTION as error:
            raise JudgeFailure(f"{self.name} ran out of memory; choose a smaller model or smaller pictures") from error
        except (JudgeFailure, comfy.model_management.InterruptProcessingException):
            raise
        except Exception as error:  # ComfyUI's code for a model raises any kind
            raise JudgeFailure(f"{self.name} failed: {one_line(str(error), 200)}") from error

    def _prompt(self, messages: Sequence[Message], pictures_first: bool = False) -> Prompt:
        pictures: list[Picture] = []
        turns = []
        for message in messages:
            places = range(len(pictures), len(pictures) + len(message.images))
            pictures += message.images
            turns.append(Turn(message.role, (*places, message.text) if pictures_first else (message.text, *places)))
        if len(pictures) > 1 and not self._template.several:
            pictures, turns = [side_by_side(pictures)], _merge_pictures(turns)
        images = [_tensor(picture) for picture in pictures]
        given = {} if not images else {"image": _batch(images)} if self._template.batched else {"images": images}
        tokens = self._clip.tokenize(self._template.prompt(turns, self._control), **given)
        row = (next(iter(tokens.values())) if isinstance(tokens, dict) else tokens)[0]
        parts = tuple(entry[0] for entry in row)
        return Prompt(tokens, parts, sum(map(_cost, parts)))


_FAST: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def fast_tokenizer(tokenizer: Any) -> Any | None:
    """Return a tokenizer of ComfyUI's in the form that llguidance reads; None if there is none.

    A fast tokenizer of transformers is returned as it is. Gemma 4 has ComfyUI's own wrapper around such a tokenizer; it
    is wrapped anew.
    """
    if getattr(tokenizer, "is_fast", False):
        return tokenizer
    inner = getattr(tokenizer, "tokenizer", None)
    if type(inner).__module__.partition(".")[0] != "tokenizers":
        return None
    if tokenizer not in _FAST:  # kept, since llguidance's table of tokens is cached by this object
        from transformers import PreTrainedTokenizerFast

        _FAST[tokenizer] = PreTrainedTokenizerFast(tokenizer_object=inner)
    return _FAST[tokenizer]


class _GrammarChoice:
    """Chooses the tokens of a document by its grammar, then the stop token. `used`: whether it was called."""

    def __init__(self, document: Document, stop: int) -> None:
        self.used = False
        self._document, self._stop, self._due = document, stop, document.forced()

    def __call__(self, logits: torch.Tensor) -> int:
        self.used = True
        if not self._due:
            if self._document.complete:
                return self._stop
            self._due = [self._document.take(logits[0].float()), *self._document.forced()]
        return self._due.pop(0)


@contextmanager
def _sampled_by(writer: Any, choose: Callable[[torch.Tensor], int] | None) -> Iterator[None]:
    """Let `choose` pick every token from the logits, 1 x vocabulary. All nodes share the CLIP object, so its sampler is
    always restored.
    """
    if choose is None:
        yield
        return
    missing = object()
    before = vars(writer).get("sample_token", missing)
    writer.sample_token = lambda logits, *_, **__: torch.tensor([[choose(logits)]], device=logits.device)
    try:
        yield
    finally:
        vars(writer).pop("sample_token", None)
        if before is not missing:
            writer.sample_token = before


def _append(messages: Sequence[Message], more: str) -> list[Message]:
    """Append a paragraph to the last message."""
    *rest, last = messages
    return [*rest, Message(last.role, f"{last.text}\n\n{more}", last.images)]


def _merge_pictures(turns: Sequence[Turn]) -> list[Turn]:
    """Replace the pictures of all turns by one, the sheet of `side_by_side`, in the first turn that had a picture."""
    placed, made = False, []
    for turn in turns:
        if not any(isinstance(part, int) for part in turn.parts):
            made.append(turn)
            continue
        words = [part for part in turn.parts if isinstance(part, str)]
        made.append(Turn(turn.role, tuple(words) if placed else (0, SIDE_BY_SIDE + "\n", *words)))
        placed = True
    return made


def _tensor(picture: Picture) -> torch.Tensor:
    """Convert to float32 1 x H x W x 3 in 0..1, scaled down to PIXELS if it is larger."""
    height, width = picture.shape[:2]
    if (scale := math.sqrt(PIXELS / (height * width))) < 1:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    return torch.from_numpy(picture.astype(np.float32) / 255)[None]


def _batch(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Make one batch, N x H x W x 3, in the size of the first."""
    height, width = images[0].shape[1:3]
    scaled = (
        torch.nn.functional.interpolate(image.movedim(-1, 1), (height, width), mode="area").movedim(1, -1)
        for image in images
    )
    return torch.cat(list(scaled))


def _key(part: Any) -> Any:
    """Return a value by which two parts of prompts are compared: a token itself, a picture's type, shape and pixels."""
    return part if isinstance(part, int) else (part["type"], part["data"].shape, hash(part["data"].numpy().tobytes()))


def _cost(part: Any) -> int:
    if isinstance(part, int):
        return 1
    height, width = part["data"].shape[1:3]
    return max(1, round(height * width / PIXELS_A_TOKEN))
