"""The pictures of which a run keeps something: its named references, in the order of the brief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..brief import ASPECTS, Aspect, Brief, Reference
from ..errors import BadInput
from ..protocols import Picture
from ..storage.pictures import DECODING_ERRORS, opened, pixels
from .start_image import fit_to_canvas
from .store import RunStore, digest_of

STEP = 16
"""Pixels of which the sides of a reference are multiples, as executors want them."""


@dataclass(frozen=True)
class Given:
    """A reference as it is given. picture: uint8 H x W x 3, of any size."""

    name: str
    picture: Picture
    keeps: Aspect = "subject"


def with_references(brief: Brief, given: Sequence[Given]) -> tuple[Brief, dict[str, Picture]]:
    """Return the brief with these references, and their pictures by name: each scaled down to at most the area of the
    canvas, in its own proportions. Raises BadInput for a name or a number of references that the brief refuses.
    """
    pictures = {each.name: fit_to_canvas(each.picture, brief.width, brief.height, STEP) for each in given}
    named = [Reference(each.name, digest_of(pictures[each.name]), each.keeps) for each in given]
    return replace(brief, references=tuple(named)), pictures


def receive_references(brief: Brief, pictures: Mapping[str, Picture], store: RunStore) -> None:
    """Save the references of a new run before the journal names them; of a run that is continued they are in the store.

    Raises BadInput if one is missing, or is not the picture that the brief names.
    """
    for each in brief.references if not store.lines else ():
        if each.name not in pictures:
            raise BadInput(f"the reference {each.name} of the brief was not given with it; give its picture")
        if digest_of(pictures[each.name]) != each.sha256:
            raise BadInput(f"the reference {each.name} is another picture than the brief names; make the brief anew")
        store.save_reference(each.name, pictures[each.name])


def read_references(words: Sequence[str]) -> list[Given]:
    """Read `--reference` of the command line, each NAME=FILE or NAME=FILE:ASPECT. Raises BadInput."""
    found = []
    for each in words:
        name, equals, rest = each.partition("=")
        file, colon, aspect = rest.rpartition(":")
        if not colon or aspect not in ASPECTS:
            file, aspect = rest, "subject"
        if not equals or not file:
            raise BadInput(
                f"--reference {each!r:.80} is no NAME=FILE; write one such as ann=ann.png, or ann=ann.png:face to keep one of "
                f"{', '.join(ASPECTS)}"
            )
        try:
            with opened(Path(file).read_bytes()) as image:
                picture = pixels(image)
        except DECODING_ERRORS as error:
            raise BadInput(f"the reference {name} cannot be read from {file}: {error}") from error
        keeps: Aspect = next(known for known in ASPECTS if known == aspect)
        found.append(Given(name, picture, keeps))
    return found
