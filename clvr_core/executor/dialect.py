"""Which fields, and how many references, an endpoint of an image server takes: found once, by asking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..http_json import ServerFailure
from ..http_json.client import REQUEST

DISPENSABLE = (
    ("mask_image", "strength"),
    ("seed", "num_inference_steps", "guidance_scale"),
    ("output_format",),
    ("response_format",),
    ("mask",),
)
"""Fields that a request may go without, in the order in which they are left out. The first two groups are of vLLM-Omni
and SGLang; OpenAI's own models refuse them, and one of the next two."""


@dataclass(frozen=True, slots=True)
class Form:
    """The names of the fields of a request, and how many of its references it shows."""

    names: frozenset[str]
    references: int = 0


class Dialect:
    """What one endpoint takes. Several threads may ask; one at a time tries other forms.

    references: that it edits from at most; None as long as no limit is known.
    """

    def __init__(self, references: int | None = None) -> None:
        self.references = references
        self._refused: frozenset[str] = frozenset()
        self._taken = Form(frozenset())
        self._learning = threading.Lock()

    def ask(self, whole: Form, send: Callable[[Form], Any]) -> tuple[Any, Form]:
        """Return what `send` returns for the fullest form of the request that the endpoint takes, and that form.

        A request that is refused as such is sent again with less: without fields that the endpoint has not taken
        before, and with fewer references than any that it has. What is then taken is remembered.

        Raises ServerFailure: the first one if no form is taken, and any that is not about the request.
        """
        form = self._known(whole)
        try:
            return self._sent(form, send), form
        except ServerFailure as error:
            if error.status not in REQUEST:
                raise
            first = error
        with self._learning:
            for less in self._lesser(whole, form):
                try:
                    answer = self._sent(less, send)
                except ServerFailure as error:
                    if error.status not in REQUEST:
                        raise
                    continue
                self._refused |= whole.names - less.names
                if less.references < form.references:
                    self.references = less.references
                return answer, less
        raise first

    def _known(self, whole: Form) -> Form:
        """Return the form without what is known to be refused."""
        most = whole.references if self.references is None else min(whole.references, self.references)
        return Form(whole.names - self._refused, most)

    def _sent(self, form: Form, send: Callable[[Form], Any]) -> Any:
        answer, taken = send(form), self._taken
        self._taken = Form(taken.names | form.names, max(taken.references, form.references))
        return answer

    def _lesser(self, whole: Form, refused: Form) -> Iterator[Form]:
        """Yield the forms to try after one that was refused, the fullest first."""
        form, taken = self._known(whole), self._taken
        groups = [group for group in DISPENSABLE if not form.names.intersection(group) <= taken.names]
        least = min(max(taken.references, 1), form.references)
        for references in range(form.references, least - 1, -1):
            names = form.names
            for group in ((), *groups):
                names = names.difference(group)
                if (less := Form(names, references)) != refused:
                    yield less
