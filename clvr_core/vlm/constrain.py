"""Constrained decoding by llguidance: at every step only tokens that can lead to a document of the JSON schema are
allowed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import JudgeFailure

if TYPE_CHECKING:
    from torch import Tensor


def available() -> bool:
    return importlib.util.find_spec("llguidance") is not None


_TABLES: WeakKeyDictionary[Any, dict[tuple[int, ...], Any]] = WeakKeyDictionary()


class Grammars:
    """Grammars for one tokenizer. vocabulary: number of logits. ends: ids of the tokens that end a reply."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Sequence[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, list(ends)

    @property
    def _tokens(self) -> Any:
        """llguidance's table of the tokenizer.

        Takes seconds for a vocabulary of 150,000, so it is built at first use and cached.
        """
        import llguidance.hf

        tables, key = _TABLES.setdefault(self._tokenizer, {}), (self._vocabulary, *self._ends)
        if key not in tables:
            tables[key] = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends)
        return tables[key]

    def start(self, schema: Mapping[str, Any]) -> Document | None:
        """Begin a document of the schema; None if llguidance is missing or does not support this
        tokenizer or schema.
        """
        if not available() or not self._tokenizer.is_fast:
            return None
        from llguidance import LLMatcher

        # No optional white space: a model that writes it may never stop.
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(_bounded(schema)), overrides={"whitespace_flexible": False}
        )
        if LLMatcher.validate_grammar(grammar, self._tokens):
            return None
        return Document(LLMatcher(self._tokens, grammar, log_level=0), self._vocabulary)


def _bounded(schema: Any) -> Any:
    """Return the schema with numbers limited to three decimals; else greedy decoding may write digits without end."""
    if isinstance(schema, Mapping):
        inner = {name: _bounded(value) for name, value in schema.items()}
        return {"multipleOf": 0.001} | inner if schema.get("type") == "number" else inner
    return [_bounded(item) for item in schema] if isinstance(schema, (list, tuple)) else schema


class Document:
    """One JSON document while it is being written."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros((1, (vocabulary + 31) // 32), np.int32)
        self._vocabulary = vocabulary

    @property
    def complete(self) -> bool:
        """Whether no token can follow."""
        return self._matcher.is_stopped()

    def forced(self) -> list[int]:
        """Return the tokens that the schema leaves no choice about, and add them to the document."""
        tokens = self._matcher.compute_ff_tokens()
        if tokens:
            self._matcher.consume_tokens(tokens)
        self._fail_if_lost()
        return tokens

    def take(self, logits: Tensor) -> int:
        """Return the likeliest token that the schema allows, and add it to the document. logits: float, vocabulary."""
        token = likeliest(logits, self.allowed())
        self.add(token)
        return token

    def allowed(self) -> np.ndarray:
        """Return which tokens may follow: bool, vocabulary."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._bits)
        self._fail_if_lost()
        # llguidance's own function for this compiles a kernel, which takes seconds and a C++ compiler.
        return np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocabulary].astype(bool)

    def add(self, token: int) -> None:
        """Add a token that may follow."""
        self._matcher.consume_token(token)
        self._fail_if_lost()

    def _fail_if_lost(self) -> None:
        if self._matcher.is_error():
            raise JudgeFailure(f"the reply cannot be held to its schema: {self._matcher.get_error()[:300]}")


def likeliest(logits: Tensor, allowed: np.ndarray | None = None) -> int:
    """Return the token with the greatest of the logits, float of the vocabulary, among those that are allowed: bool,
    vocabulary; None for all."""
    import torch

    if allowed is not None:
        logits = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))
    return int(logits.argmax())
