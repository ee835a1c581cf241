"""Second witnesses by name, and a run's models with them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..errors import BadInput
from ..run.run_models import RunModels
from ..storage.cache import cache_folder
from ..witness import SECONDS, Witness, Witnesses
from ..witness.judge import with_witnesses
from ..witness.reliability import FILE, read_reliability

Models = TypeVar("Models", bound=RunModels)
KINDS = "text", "objects", "count", "changes", "likeness"
ALONE = "count", "changes"
"""Kinds that need no program of their own, and take no value."""
NONE = "none"
LIKENESS = re.compile(r".+@0?\.\d+")
"""A folder and a similarity."""


@dataclass(frozen=True)
class WitnessSettings:
    """The table [witnesses] of a clvr.toml. A witness that is not named is off.

    text: `auto` for the first text reader that is installed, a reader's package, or the folders of a detector and a
        recogniser for transformers with a + between them.
    objects: folder of an object detector for transformers.
    likeness: folder of an image model for transformers, for goals of likeness.
    alike: cosine similarity 0..1 of that model from which up two pictures count as alike; it must be given with it, since
        it differs from model to model.
    count: whether the judge is also asked how many there are, as a number.
    changes: whether what was measured on the pixels of an edit is a witness of what was to be kept.
    device: that they run on, as torch names it.
    seconds: how long each may look at one picture.
    """

    text: str = ""
    objects: str = ""
    likeness: str = ""
    alike: float = 0.0
    count: bool = False
    changes: bool = False
    device: str = "cpu"
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf):
            raise BadInput(f"[witnesses] seconds is {self.seconds}; it must be above 0 and finite")
        if self.likeness and not 0 < self.alike < 1:
            raise BadInput(
                f"[witnesses] alike is {self.alike:g}; give the similarity from which up pictures are alike by {self.likeness}, "
                "between 0 and 1"
            )


def read_witnesses(words: str) -> WitnessSettings:
    """Read the words of `--witness`: kinds with commas between, each with or without =VALUE, or `none`.

    Raises BadInput for another kind, a kind that is named twice, a value of one that takes none, and a detector without
    its folder.
    """
    values: dict[str, str] = {}
    if words.strip() == NONE:
        return WitnessSettings()
    for word in filter(None, map(str.strip, words.split(","))):
        kind, equals, value = word.partition("=")
        if kind not in KINDS:
            raise BadInput(f"there is no witness {kind!r}; choose from {', '.join(KINDS)}, or {NONE}")
        if kind in values:
            raise BadInput(f"the witness {kind} is named twice; name each once")
        if equals and not value:
            raise BadInput(f"the witness {kind} has an empty value; write {kind}=VALUE, or {kind} alone")
        if kind == "objects" and not equals:
            raise BadInput("the witness objects needs the folder of a detector; write objects=FOLDER")
        if kind == "likeness" and not LIKENESS.fullmatch(value):
            raise BadInput("the witness likeness needs a folder and a similarity; write likeness=FOLDER@0.6")
        if kind in ALONE and equals:
            raise BadInput(f"the witness {kind} takes no value, and has {value!r:.80}; write {kind} alone")
        values[kind] = value or "auto"
    likeness, _, alike = values.get("likeness", "").rpartition("@")
    return WitnessSettings(
        values.get("text", ""),
        values.get("objects", ""),
        likeness,
        float(alike or 0),
        count="count" in values,
        changes="changes" in values,
    )


def load_witnesses(settings: WitnessSettings) -> Witnesses:
    """Load the witnesses. Raises BadInput for a package that is missing and a folder that holds no such model."""
    loaded: list[Witness] = []
    if settings.text:
        from ..witness.text import TextWitness, load_reader

        loaded.append(TextWitness(load_reader("" if settings.text == "auto" else settings.text, settings.device)))
    if settings.objects:
        from ..witness.detectors import load_detector
        from ..witness.objects import ObjectWitness

        loaded.append(ObjectWitness(load_detector(Path(settings.objects), settings.device)))
    if settings.likeness:
        from ..witness.likeness import LikenessWitness, load_embedder

        loaded.append(LikenessWitness(load_embedder(Path(settings.likeness), settings.device), settings.alike))
    reliability = read_reliability(reliability_file())
    return Witnesses(loaded, settings.seconds, counts=settings.count, changes=settings.changes, reliability=reliability)


def reliability_file() -> Path:
    """What `clvr doctor --calibrate` measured of the witnesses on this machine; the nodes read it too."""
    return cache_folder() / FILE


def judged_with(models: Models, witnesses: Witnesses) -> Models:
    """Return the models with a judge that these witnesses stand beside, in place of those that it has."""
    judge = with_witnesses(models.verifier, witnesses)
    return models if judge is models.verifier else replace(models, judge=judge)
