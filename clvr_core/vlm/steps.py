"""Fast decoding on a GPU: the forward pass of one token is recorded once as a CUDA graph, over a cache that stays in
place.

A pass of one token launches about two thousand small kernels, and launching them takes longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROUND = 512
"""The size of a cache is a multiple of this many tokens."""

Recorder = Callable[[Callable[[], "Tensor"]], Callable[[], "Tensor"]]


def usable(model: Any) -> bool:
    """Whether the model is on a GPU and its attention takes a boolean mask."""
    return model.device.type == "cuda" and getattr(model.config.get_text_config(), "_attn_implementation", "") == "sdpa"


def cuda_graph(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record `step` as a CUDA graph and return a function that replays it.

    `step` must read and write tensors that stay in place. Raises RuntimeError if it waits for the GPU, as reading a
    value does.
    """
    import torch

    # Warm up on another stream, as torch's guide to CUDA graphs says, so that libraries have allocated what they need.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # thread_local: other threads may use the GPU meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        logits = step()

    def play() -> Tensor:
        graph.replay()
        return logits.clone()

    return play


class Steps:
    """Forward passes of one model over a cache of fixed size. All layers must be full attention.

    room: tokens that the cache holds.
    mrope: whether positions have three rows.
    """

    def __init__(self, model: Any, room: int, mrope: bool, record: Recorder = cuda_graph) -> None:
        """record: turns the pass of one token into the function that is called for each; its errors are not caught."""
        import torch
        from transformers.cache_utils import Cache

        self.model, self.room = model, -(-room // ROUND) * ROUND
        text, device = model.config.get_text_config(), model.device
        heads, width = (
            text.num_key_value_heads,
            getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        )
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._at = torch.zeros((3, 1, 1) if mrope else (1, 1), dtype=torch.long, device=device)
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._slots = torch.arange(self.room, device=device)
        self._layers: list[Any] = [
            _layer(heads, self.room, width, model.dtype, device, self._place) for _ in range(text.num_hidden_layers)
        ]
        self.cache = Cache(layers=self._layers)
        self._play = record(self._step)

    def load(self, cache: Any) -> None:
        """Copy the keys and values of another cache."""
        for mine, other in zip(self._layers, cache.layers, strict=True):
            length = other.keys.shape[-2]
            mine.keys[:, :, :length], mine.values[:, :, :length] = other.keys, other.values

    def unload(self, cache: Any, first: int, end: int) -> None:
        """Append keys and values of the tokens first to end - 1 to the cache that was loaded."""
        for mine, other in zip(self._layers, cache.layers, strict=True):
            if end > first:
                other.update(mine.keys[:, :, first:end].clone(), mine.values[:, :, first:end].clone())

    def read(self, tokens: Sequence[int], length: int, position: int) -> Tensor:
        """Return float32 logits after the tokens, which follow `length` others; the first one is at `position`."""
        import torch

        if len(tokens) == 1:
            self._token.fill_(tokens[0])
            self._place.fill_(length)
            self._at.fill_(position)
            return self._play()
        device = self._token.device
        place = torch.arange(length, length + len(tokens), device=device)
        at = torch.arange(position, position + len(tokens), device=device).expand(*self._at.shape[:-1], -1)
        return self._pass(torch.tensor([tokens], device=device), at, place)

    def _step(self) -> Tensor:
        return self._pass(self._token, self._at, self._place)

    def _pass(self, tokens: Tensor, at: Tensor, place: Tensor) -> Tensor:
        for layer in self._layers:
            layer.place = place
        seen = (self._slots <= place[:, None])[None, None]
        inputs = {"input_ids": tokens, "position_ids": at, "attention_mask": seen}
        return self.model(**inputs, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits[0, -1].float()


def _layer(heads: int, room: int, width: int, dtype: Any, device: Any, place: Tensor) -> Any:
    import torch
    from transformers.cache_utils import DynamicLayer

    class Layer(DynamicLayer):
        """Keys and values, 1 x heads x room x width, written at `place`."""

        keys: Tensor
        values: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.keys, self.values = (torch.zeros(1, heads, room, width, dtype=dtype, device=device) for _ in range(2))
            self.dtype, self.device, self.place, self.is_initialized = dtype, device, place, True

        def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            self.keys.index_copy_(2, self.place, keys)
            self.values.index_copy_(2, self.place, values)
            return self.keys, self.values

    return Layer()
