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


@dataclass(frozen=True)
class ReferenceFile:
    """A reference that is named and not yet read."""

    name: str
    file: Path
    keeps: Aspect = "subject"

    def read(self) -> Given:
        """Raises BadInput if the file holds no whole picture."""
        try:
            with opened(self.file.read_bytes()) as image:
                return Given(self.name, pixels(image), self.keeps)
        except DECODING_ERRORS as error:
            raise BadInput(f"the reference {self.name} cannot be read from {self.file}: {error}") from error


def parse_reference(words: str, folder: Path = Path()) -> ReferenceFile:
    """Parse NAME=FILE or NAME=FILE:ASPECT, with a relative FILE in this folder. Raises BadInput."""
    name, equals, rest = words.partition("=")
    file, colon, aspect = rest.rpartition(":")
    if not colon or aspect not in ASPECTS:
        file, aspect = rest, "subject"
    if not equals or not file:
        raise BadInput(
            f"the reference {words!r:.80} is no NAME=FILE; write one such as ann=ann.png, or ann=ann.png:face to keep one of "
            f"{', '.join(ASPECTS)}"
        )
    keeps: Aspect = next(known for known in ASPECTS if known == aspect)
    return ReferenceFile(name, folder / file, keeps)


def read_references(words: Sequence[str]) -> list[Given]:
    """Read what `--reference` gives, each as `parse_reference` parses it. Raises BadInput."""
    return [parse_reference(each).read() for each in words]
