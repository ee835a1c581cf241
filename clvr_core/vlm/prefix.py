"""Prefix caching: tokens that a new prompt shares with an earlier one are not run through the model again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .prompt import Prompt, common
from .steps import Recorder, Steps, cuda_graph, usable

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 12_288
"""Tokens whose keys and values are cached, over all conversations: 1.7 GiB at the 144 KiB a token of Qwen3-VL 4B and
8B.
"""
AT_ONCE = 8
"""Continuations of one prompt in one batch, at most; each has a copy of the prompt's keys and values."""
WORTH_KEEPING = 32
"""Tokens: reading a shorter prefix again is faster than copying its cache."""

ALIKE = 0.99
"""Least cosine between the logits of a recorded and a plain pass, which differ by the rounding of bfloat16."""


@dataclass(eq=False)
class Run:
    """A prompt that was read, and the tokens that were generated after it.

    cache: keys and values of exactly the tokens of `keys`.
    keys: what each token is, as in `Prompt`.
    mrope: whether positions have three rows.
    logits: float32, vocabulary, of the next token; None before anything was read.
    position: of the next token.
    """

    cache: Any
    keys: list[Hashable]
    mrope: bool
    logits: Any = None
    position: int = 0


class Reader:
    """Runs one model and caches what it read.

    check: called before every forward pass.
    kept: tokens that are cached, at most.

    A cache is cropped to the prefix that two prompts share. Where it cannot be cropped (recurrent states, sliding
    windows), copies are kept at the end of a prompt and where the prompt departed from an earlier one, since later
    prompts may depart there too.
    """

    def __init__(
        self,
        model: Any,
        check: Callable[[], None] = lambda: None,
        kept: int = KEPT,
        record: Recorder | None = cuda_graph,
    ) -> None:
        """record: makes the pass of one token fast, see `Steps`; None for plain passes. `cuda_graph` is used only while
        the model is on a GPU.
        """
        self.model, self.check, self.kept = model, check, kept
        self.croppable = croppable(model)
        self._record = record if self.croppable else None
        self._steps: Steps | None = None
        self._writing = False
        # Whether image tokens attend to later ones. Gemma 4 says so in its config, Gemma 3 and PaliGemma by types.
        self.looks_ahead = bool(getattr(model.config.get_text_config(), "use_bidirectional_attention", None))
        self._runs: list[Run] = []

    def read(self, prompt: Prompt) -> Run:
        """Read the prompt, reusing the longest cached prefix; the logits equal those of a fresh reading."""
        shared = [(self._shared(run, prompt), run) for run in self._runs]
        departure = max((length for length, _ in shared), default=0)
        run = self._cached_prefix(shared, prompt)
        stops = [len(prompt)]
        if not self.croppable and departure - len(run.keys) >= WORTH_KEEPING:
            stops.insert(0, departure)
        for stop in stops if len(run.keys) < len(prompt) else ():
            inputs = prompt.part(len(run.keys), stop)
            self._forward(run, inputs, prompt.keys[len(run.keys) : stop])
            run.position = prompt.head(stop).next_position
            if not self.croppable:
                self.keep(copy_of(run))
        return run

    def extend(self, run: Run, tokens: Sequence[int]) -> None:
        """Read text tokens after the run, in one forward pass."""
        if self._writing and self._steps:
            self.check()
            run.logits = self._steps.read(tokens, len(run.keys), run.position)
            run.keys += tokens
        else:
            self._forward(run, self._text(run, [tokens]), tokens)
        run.position += len(tokens)

    @contextmanager
    def writing(self, run: Run, room: int) -> Iterator[None]:
        """Make `extend` fast on a GPU, for at most `room` tokens; the run's cache is complete again
        after the context.
        """
        steps = self._steps_for(run, len(run.keys) + room)
        if steps is None:
            yield
            return
        steps.load(run.cache)
        begun, self._writing = len(run.keys), True
        try:
            yield
        finally:
            self._writing = False
            steps.unload(run.cache, begun, len(run.keys))

    def _steps_for(self, run: Run, room: int) -> Steps | None:
        # Asked each time: a model that shares its device moves.
        if self._record is cuda_graph and not usable(self.model):
            return None
        if self._record and (self._steps is None or self._steps.room < room):
            self._steps = None  # frees its memory
            try:
                steps = Steps(self.model, room, run.mrope, self._record)
                self._verify(steps, run)
                self._steps = steps
            except Exception as error:  # torch, CUDA and the model's own code each raise their own kinds
                first = next(iter(str(error).strip().splitlines()), type(error).__name__)
                warnings.warn(
                    f"replies are written slowly, without a CUDA graph: {first[:200]}", RuntimeWarning, stacklevel=3
                )
                self._record = None
        return self._steps

    def keep(self, run: Run) -> None:
        """Cache the run, which must not be used afterwards."""
        self._runs = [run, *(other for other in self._runs if other.keys != run.keys)]
        while len(self._runs) > 1 and sum(len(other.keys) for other in self._runs) > self.kept:
            self._runs.pop()

    def _verify(self, steps: Steps, run: Run) -> None:
        """Raise RuntimeError if the recorded pass gives other logits than a plain one after the run."""
        import torch

        token = int(run.logits.argmax())
        given = self._text(run, [[token]]) | {"past_key_values": copy.deepcopy(run.cache)}
        plain = self.model(**given, use_cache=True, logits_to_keep=1).logits[0, -1].float()
        steps.load(run.cache)
        recorded = steps.read([token], len(run.keys), run.position)
        alike = float(torch.nn.functional.cosine_similarity(plain - plain.mean(), recorded - recorded.mean(), dim=0))
        if not alike > ALIKE:
            raise RuntimeError(f"the recorded pass gives other logits than the plain one (similarity {alike:.3f})")

    def finish(self, run: Run) -> None:
        """Cache a run with generated tokens, if it can be cropped to the prefix that the next prompt shares."""
        if self.croppable:
            self.keep(run)

    def forget(self) -> None:
        """Drop all cached runs and the recorded pass, which reads the weights at their old addresses."""
        self._runs.clear()
        self._steps = None

    def continuations(self, run: Run, tails: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return float32 logits after each tail, as if it alone followed the run; the run is not changed."""
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
        # The padding of shorter tails comes after the token whose logits are read, so it does not change them.
        inputs = self._text(run, [[*tail, *[tail[-1]] * (longest - len(tail))] for tail in tails])
        ends = sorted({len(tail) - 1 for tail in tails})
        places = torch.tensor(ends, device=self.model.device)
        logits = self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=places).logits
        if logits.shape[1] == longest:
            # All of them: MiniCPM-V passes over logits_to_keep.
            ends = list(range(longest))
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
        """Return how many tokens of the prompt the run can stand for; all of them only if it ends there, since then it
        has the logits.
        """
        length = common([run.keys, prompt.keys])
        length = prompt.whole(min(length, len(prompt) - (len(run.keys) > length)))
        return length if length >= self._least(prompt) else 0

    def _least(self, prompt: Prompt) -> int:
        """Return the least useful prefix: where image tokens attend to each other, the mask is right only if it holds
        all pictures.
        """
        if not prompt.images or not (self.looks_ahead or "token_type_ids" in prompt.typed):
            return 0
        return prompt.spans[-1][1]

    def _cached_prefix(self, shared: list[tuple[int, Run]], prompt: Prompt) -> Run:
        from transformers import DynamicCache

        candidates = [(length, run) for length, run in shared if length and (self.croppable or length == len(run.keys))]
        if not candidates:
            return Run(DynamicCache(config=self.model.config.get_text_config()), [], prompt.positions.ndim == 3)
        length, run = max(candidates, key=lambda pair: pair[0])
        if self.croppable and length == len(run.keys):
            self._runs.remove(run)  # it is extended in place
        else:
            run = copy_of(run)
        if surplus := len(run.keys) - length:
            run.cache.crop(-surplus)
            del run.keys[length:]
        return run


def copy_of(run: Run) -> Run:
    """Return the run with a cache of its own."""
    return replace(run, cache=copy.deepcopy(run.cache), keys=list(run.keys))


def croppable(model: Any) -> bool:
    """Whether the model's cache can be cropped by any number of tokens.

    Decided by its layers, since some versions of transformers crop what cannot be cropped without an error.
    """
    text = model.config.get_text_config()
    if kinds := getattr(text, "layer_types", None):
        return set(kinds) == {"full_attention"}
    return not getattr(text, "sliding_window", None) and not getattr(model, "_is_stateful", False)
