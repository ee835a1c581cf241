"""Reads prompts, and remembers: what a new prompt shares with an earlier one is not run through the model again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .prompt import Prompt, common

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 12_288
"""Tokens whose keys and values are kept over all conversations: 1.7 GiB at the 144 KiB a token of Qwen3-VL 4B and 8B."""
AT_ONCE = 8
"""Continuations of one prompt run in one batch; each holds a copy of the prompt's keys and values."""
WORTH_KEEPING = 32
"""Tokens: a shorter beginning is read again sooner than it is copied."""


@dataclass(eq=False)
class Run:
    """A prompt that was read, and what was written after it. `cache` holds exactly the tokens of `keys`.

    logits: float32, of the token that comes next. position: of that token. mrope: positions have three rows.
    """

    cache: Any
    keys: list[Hashable]
    mrope: bool
    logits: Tensor | None = None
    position: int = 0


class Reader:
    """Runs one model. `check` is called before every pass and may raise to end the run.

    A cache is cut back to what two prompts share. Where it cannot be cut (recurrent states, sliding windows), copies are kept of it at
    the end of a prompt and at the place where the prompt departed from an earlier one, where later ones may depart as well.
    """

    def __init__(self, model: Any, check: Callable[[], None] = lambda: None, kept: int = KEPT) -> None:
        self.model, self.check, self.kept = model, check, kept
        self.croppable = croppable(model)
        # Gemma 4 says so in its config, Gemma 3 and PaliGemma by the types of their tokens.
        self.looks_ahead = bool(getattr(model.config.get_text_config(), "use_bidirectional_attention", None))
        self._runs: list[Run] = []

    def read(self, prompt: Prompt) -> Run:
        """The prompt as a run, its last logits those of a fresh reading."""
        shared = [(self._shared(run, prompt), run) for run in self._runs]
        departs = max((length for length, _ in shared), default=0)
        run = self._beginning(shared, prompt)
        stops = [len(prompt)]
        if not self.croppable and departs - len(run.keys) >= WORTH_KEEPING:
            stops.insert(0, departs)
        for stop in stops if len(run.keys) < len(prompt) else ():
            inputs = prompt.part(len(run.keys), stop)
            self._forward(run, inputs, prompt.keys[len(run.keys) : stop])
            run.position = prompt.head(stop).next_position
            if not self.croppable:
                self.keep(_copy(run))
        return run

    def extend(self, run: Run, tokens: Sequence[int]) -> None:
        """Tokens of text, in one pass."""
        self._forward(run, self._text(run, [tokens]), tokens)
        run.position += len(tokens)

    def keep(self, run: Run) -> None:
        """Remembers the run, which must not be used afterwards."""
        self._runs = [run, *(other for other in self._runs if other.keys != run.keys)]
        while len(self._runs) > 1 and sum(len(other.keys) for other in self._runs) > self.kept:
            self._runs.pop()

    def finish(self, run: Run) -> None:
        """Remembers a run to which something was written, if it can be cut back to what the next prompt holds of it."""
        if self.croppable:
            self.keep(run)

    def forget(self) -> None:
        """Frees the memory of all that was kept."""
        self._runs.clear()

    def continuations(self, run: Run, tails: Sequence[Sequence[int]]) -> list[Tensor]:
        """float32 logits after each of the tails, every one as if it alone followed the run, which stays as it is."""
        together = AT_ONCE if self.croppable else 1
        found: list[Tensor] = []
        for start in range(0, len(tails), together):
            found += self._side_by_side(run, tails[start : start + together])
        return found

    def _side_by_side(self, run: Run, tails: Sequence[Sequence[int]]) -> Iterable[Tensor]:
        import torch

        self.check()
        cache = copy.deepcopy(run.cache)
        if len(tails) > 1:
            cache.batch_repeat_interleave(len(tails))
        longest = max(map(len, tails))
        # What is appended to the shorter ones comes after the token that is read, so nothing sees it.
        inputs = self._text(run, [[*tail, *[tail[-1]] * (longest - len(tail))] for tail in tails])
        ends = sorted({len(tail) - 1 for tail in tails})
        places = torch.tensor(ends, device=self.model.device)
        logits = self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=places).logits
        return [logits[row, ends.index(len(tail) - 1)].float() for row, tail in enumerate(tails)]

    def _text(self, run: Run, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        import torch

        ids = torch.tensor(rows, device=self.model.device)
        positions = torch.arange(run.position, run.position + ids.shape[1], device=ids.device).expand_as(ids)
        return {"input_ids": ids, "position_ids": positions.expand(3, *ids.shape) if run.mrope else positions}

    def _forward(self, run: Run, inputs: dict[str, Tensor], keys: Sequence[Hashable]) -> None:
        self.check()
        output = self.model(**inputs, past_key_values=run.cache, use_cache=True, logits_to_keep=1)
        run.logits = output.logits[0, -1].float()
        run.keys += keys

    def _shared(self, run: Run, prompt: Prompt) -> int:
        """Tokens at the beginning of the prompt from which the run can go on: all of them if it ends there and so has their logits."""
        length = common([run.keys, prompt.keys])
        length = prompt.whole(min(length, len(prompt) - (len(run.keys) > length)))
        return length if length >= self._least(prompt) else 0

    def _least(self, prompt: Prompt) -> int:
        """Where pictures' tokens see each other, the mask is only right if all the pictures are read from the beginning."""
        if not prompt.images or not (self.looks_ahead or "token_type_ids" in prompt.typed):
            return 0
        return prompt.spans[-1][1]

    def _beginning(self, shared: list[tuple[int, Run]], prompt: Prompt) -> Run:
        from transformers import DynamicCache

        usable = [(length, run) for length, run in shared if length and (self.croppable or length == len(run.keys))]
        if not usable:
            return Run(DynamicCache(config=self.model.config.get_text_config()), [], prompt.positions.ndim == 3)
        length, run = max(usable, key=lambda pair: pair[0])
        if self.croppable and length == len(run.keys):
            self._runs.remove(run)  # what becomes of it holds all of it
        else:
            run = _copy(run)
        if surplus := len(run.keys) - length:
            run.cache.crop(-surplus)
            del run.keys[length:]
        return run


def _copy(run: Run) -> Run:
    return replace(run, cache=copy.deepcopy(run.cache), keys=list(run.keys))


def croppable(model: Any) -> bool:
    """Whether the model's cache can be cut back by any number of tokens. Told by its layers, since some versions of transformers cut
    what cannot be cut and say nothing."""
    text = model.config.get_text_config()
    if kinds := getattr(text, "layer_types", None):
        return set(kinds) == {"full_attention"}
    return not getattr(text, "sliding_window", None) and not getattr(model, "_is_stateful", False)
