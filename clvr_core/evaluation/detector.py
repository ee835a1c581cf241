"""GenEval's rules over the boxes of an object detector, rewritten from their description, for any detector that
transformers runs.

The official judge is Mask2Former Swin-S of mmdet 2 with CLIP ViT-L/14 for colours; another detector gives other
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..protocols import Picture
from ..witness import detectors
from ..witness.detectors import Detection, ObjectDetector, PixelBox, Run

LEAST, LEAST_COUNTING = 0.3, 0.9
"""Confidence from which a box counts, and from which it does where things are counted."""
MOST = 16
"""Boxes of a class that are kept, those of highest confidence first."""
MARGIN = 0.1
"""Share of the summed sides of two boxes by which their centres may differ and still count as level."""
ASIDE = 0.5
"""Cosine from which a direction counts as left, right, above or below."""
GREY = (0x99, 0x99, 0x99)
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


ColorOf = Callable[[Sequence[Detection]], Sequence[str]]
"""The colour of each of several detections of one class."""


def kept(found: Sequence[Detection], counting: bool) -> dict[str, list[Detection]]:
    """Return the detections of sufficient confidence by class, the highest first, at most MOST of each."""
    least = LEAST_COUNTING if counting else LEAST
    by_class: dict[str, list[Detection]] = {}
    for detection in sorted(found, key=lambda one: -one.score):
        mine = by_class.setdefault(detection.name, [])
        if detection.score > least and len(mine) < MOST:
            mine.append(detection)
    return {name: mine for name, mine in by_class.items() if mine}


def relations(a: PixelBox, b: PixelBox) -> set[str]:
    """Return the position of `a` relative to `b`, with y downwards. A distance within MARGIN of the summed sides counts
    as none."""
    centers = np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in (a, b)])
    sides = np.array([[abs(box[2] - box[0]), abs(box[3] - box[1])] for box in (a, b)])
    apart = centers[0] - centers[1]
    left_over = np.maximum(np.abs(apart) - MARGIN * sides.sum(0), 0) * np.sign(apart)
    if np.all(np.abs(left_over) < 1e-3):
        return set()
    x, y = left_over / np.linalg.norm(apart)
    named = {"left of": x < -ASIDE, "right of": x > ASIDE, "above": y < -ASIDE, "below": y > ASIDE}
    return {name for name, true in named.items() if true}


def verdict(
    record: Mapping[str, Any], found: Sequence[Detection], color_of: ColorOf, exact: bool = False
) -> tuple[bool, list[str]]:
    """Return whether the picture meets the record, and each reason why not.

    As in the official rules a clause is compared with as many boxes of its class as it asks for, those of highest
    confidence; more boxes are allowed unless an exclude clause forbids them.

    exact: more boxes are not allowed.
    """
    boxes = kept(found, record.get("tag") == "counting")
    matched: list[list[Detection] | None] = []
    reasons: list[str] = []
    for clause in record.get("include", ()):
        why = _against(clause, boxes, matched, color_of)
        matched.append(None if why else boxes[clause["class"]][: clause.get("count", 1)])
        reasons += [why] if why else []
        there = len(boxes.get(clause["class"], ()))
        if exact and there > clause.get("count", 1):
            reasons.append(f"{there} {clause['class']}, {clause.get('count', 1)} wanted")
    for clause in record.get("exclude") or ():
        if (there := len(boxes.get(clause["class"], ()))) >= clause["count"]:
            reasons.append(f"{there} {clause['class']}, fewer than {clause['count']} wanted")
    return not reasons, reasons


def _against(
    clause: Mapping[str, Any], boxes: Mapping[str, list[Detection]], matched: Sequence, color_of: ColorOf
) -> str:
    name, count = clause["class"], clause.get("count", 1)
    mine = boxes.get(name, [])[:count]
    if len(mine) < count:
        return f"{len(mine)} {name}, {count} wanted"
    if color := clause.get("color"):
        colors = list(color_of(mine))
        if colors.count(color) < count:
            return f"{name} {' and '.join(colors)}, {color} wanted"
    if position := clause.get("position"):
        wanted, other = position
        if matched[other] is None:
            return f"nothing for the {name} to be {wanted}"
        for one in mine:
            for target in matched[other]:
                seen = relations(one.box, target.box)
                if wanted not in seen:
                    return f"{name} {' and '.join(sorted(seen)) or 'level with the other'}, {wanted} wanted"
    return ""


def crop(picture: Picture, detection: Detection) -> Picture:
    """Return the crop of a box, grey outside the mask; at least one pixel."""
    height, width = picture.shape[:2]
    left, top = (max(0, int(edge)) for edge in detection.box[:2])
    right, bottom = min(width, int(np.ceil(detection.box[2]))), min(height, int(np.ceil(detection.box[3])))
    left, top = min(left, width - 1), min(top, height - 1)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    shown = picture
    if detection.mask is not None:
        shown = np.where(detection.mask[..., None], picture, np.array(GREY, np.uint8))
    return shown[top:bottom, left:right]


class Detector:
    """A detector of objects and their colours.

    detect: finds the things of these names; a detector of fixed classes looks for all that it knows.
    colors: transformers' zero-shot-image-classification pipeline; None refuses records that name a colour.
    names: what is looked for.
    """

    def __init__(
        self, name: str, detect: Run, colors: Callable[..., Any] | None = None, names: Sequence[str] = ()
    ) -> None:
        self.name, self._boxes, self._colors, self._names = name, ObjectDetector(name, detect), colors, tuple(names)

    def found(self, picture: Picture) -> list[Detection]:
        return self._boxes.detect(picture, self._names)

    def color_of(self, picture: Picture) -> ColorOf:
        from PIL import Image

        def named(detections: Sequence[Detection]) -> list[str]:
            if self._colors is None:
                raise BadInput(
                    "colours are asked for, and no model was given that names them; give --color-model FOLDER"
                )
            noun = detections[0].name
            labels = [f"a photo of a {color} {noun}" for color in COLORS]
            answers = []
            for detection in detections:
                ranked = self._colors(
                    Image.fromarray(np.ascontiguousarray(crop(picture, detection))), candidate_labels=labels
                )
                answers.append(COLORS[labels.index(max(ranked, key=lambda one: one["score"])["label"])])
            return answers

        return named


def load_detector(
    folder: Path, color_folder: Path | None = None, device: str = "cpu", names: Sequence[str] = ()
) -> Detector:
    """Load detectors from folders on this disk. names: what one without classes of its own is to look for.

    Raises BadInput for a folder that is missing or holds no detector.
    """
    from transformers import pipeline

    boxes = detectors.load_detector(folder, device)
    try:
        colors: Any = (
            pipeline("zero-shot-image-classification", model=str(color_folder), device=device) if color_folder else None
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"the model of colours cannot be loaded from {color_folder}: {error}; give the folder of a transformers model"
        ) from error
    return Detector(boxes.name, boxes.run, colors, names)
