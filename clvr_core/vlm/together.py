"""Several prompts that were read, gone on with in one forward pass a step: their caches side by side, padded at the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .prefix import Run

if TYPE_CHECKING:
    from torch import Tensor


class Together:
    """Runs of one model, whose cache can be cropped, that are extended by text tokens at the same time.

    Each run has a row; what a shorter one has too little stands masked at the left. Positions are each run's own, so that
    a row gives the logits that it would give alone, but for the rounding of another order of sums.
    """

    def __init__(self, model: Any, runs: Sequence[Run]) -> None:
        import torch
        from torch.nn import functional
        from transformers import DynamicCache

        self.model, self.runs = model, list(runs)
        lengths = [len(run.keys) for run in runs]
        longest = max(lengths)
        self._cache: Any = DynamicCache(config=model.config.get_text_config())
        for layer in range(len(runs[0].cache.layers)):
            keys, values = (
                torch.cat(
                    [
                        functional.pad(getattr(run.cache.layers[layer], name), (0, 0, longest - length, 0))
                        for run, length in zip(runs, lengths)
                    ]
                )
                for name in ("keys", "values")
            )
            self._cache.update(keys, values, layer)
        places = torch.arange(longest, device=model.device)
        short = torch.tensor([longest - length for length in lengths], device=model.device)
        self._mask = (places >= short[:, None]).long()

    def extend(self, tokens: Sequence[Sequence[int]]) -> list[Tensor]:
        """Read so many tokens, at least one, after each run, in their order. Returns float32 logits of the vocabulary after
        each."""
        import torch

        device, most = self.model.device, max(map(len, tokens))
        ids = torch.tensor([[*[part[0]] * (most - len(part)), *part] for part in tokens], device=device)
        new = torch.tensor([[0] * (most - len(part)) + [1] * len(part) for part in tokens], device=device)
        begins = torch.tensor(
            [run.position - (most - len(part)) for run, part in zip(self.runs, tokens)], device=device
        )
        positions = (begins[:, None] + torch.arange(most, device=device)).clamp(min=0)
        self._mask = torch.cat([self._mask, new], -1)
        output = self.model(
            input_ids=ids,
            position_ids=positions.expand(3, *positions.shape) if self.runs[0].mrope else positions,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        for run, part in zip(self.runs, tokens):
            run.keys += part
            run.position += len(part)
        return list(output.logits[:, -1].float())

    def leave(self, rows: Sequence[int]) -> None:
        """Give the runs of these rows caches of their own again, and go on without them."""
        import torch
        from transformers import DynamicCache

        for row in rows:
            own = self._mask[row].bool()
            cache = DynamicCache(config=self.model.config.get_text_config())
            for number, layer in enumerate(self._cache.layers):
                cache.update(layer.keys[row : row + 1, :, own], layer.values[row : row + 1, :, own], number)
            self.runs[row].cache = cache
        kept = [row for row in range(len(self.runs)) if row not in rows]
        self.runs = [self.runs[row] for row in kept]
        if kept:
            index = torch.tensor(kept, device=self.model.device)
            self._cache.batch_select_indices(index)
            self._mask = self._mask[index]
