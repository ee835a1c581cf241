"""The witness of lettering: what stands in the picture, letter by letter, by a text reader that is installed.

Two packages bring published weights along and need no network: `rapidocr` with `onnxruntime` (the extra `text`), and
`faster-paddle`. transformers reads with the user's own weights, a folder of a PP-OCR detector and one of a recogniser.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from ..brief import Box, Goal
from ..errors import BadInput
from ..protocols import Picture
from ..trajectory import Finding
from .lettering import NAME, Limits, Line, asked, finding_on

SIDE = 2048
"""Pixels of the longer side of the picture that is read."""
MAX_LINES = 200
USUAL = Limits()


class Reader(Protocol):
    """Reads the lines of text in a picture."""

    name: str

    def read(self, picture: Picture) -> Sequence[Line]:
        """Return the lines in a picture, uint8 H x W x 3, roughly from the top."""
        ...


class TextWitness:
    """Compares what is read with what the goals ask to be written. Reads only if a goal asks for lettering."""

    def __init__(self, reader: Reader, limits: Limits = USUAL) -> None:
        self._reader, self._limits = reader, limits

    @property
    def name(self) -> str:
        return f"{NAME} ({self._reader.name})"

    def look(self, picture: Picture, goals: Sequence[Goal]) -> Mapping[str, Finding]:
        about = {goal.id: wanted for goal in goals if (wanted := asked(goal)) is not None}
        if not about:
            return {}
        lines = list(self._reader.read(_small(picture)))[:MAX_LINES]
        said = {goal: finding_on(wanted, lines, self._limits) for goal, wanted in about.items()}
        return {goal: finding for goal, finding in said.items() if finding is not None}


def _small(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    if max(height, width) <= SIDE:
        return picture
    from PIL import Image

    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


class RapidReader:
    """PP-OCR by the package rapidocr on onnxruntime."""

    def __init__(self) -> None:
        import logging

        from rapidocr import RapidOCR  # pyright: ignore[reportMissingImports]

        # It writes several lines to the terminal at each start.
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._read = RapidOCR(params={"Global.log_level": "error"})
        self.name = f"rapidocr {version('rapidocr')}"

    def read(self, picture: Picture) -> list[Line]:
        found: Any = self._read(np.ascontiguousarray(picture[..., ::-1]))
        if found.txts is None or found.boxes is None or found.scores is None:
            return []
        height, width = picture.shape[:2]
        return [
            Line(str(text), float(score), _box(corners, width, height))
            for text, score, corners in zip(found.txts, found.scores, found.boxes)
        ]


def _box(corners: Any, width: int, height: int) -> Box:
    """The upright box, in fractions, around corners in pixels."""
    points = np.asarray(corners, float).reshape(-1, 2) / (width, height)
    (left, top), (right, bottom) = np.clip(points.min(0), 0, 1), np.clip(points.max(0), 0, 1)
    return float(left), float(top), float(right), float(bottom)


class FasterPaddleReader:
    """PP-OCR, its size `small`, by the package faster-paddle."""

    def __init__(self) -> None:
        self._engine: Any = importlib.import_module("faster_paddle").OcrEngine(model_size="small")
        self.name = f"faster-paddle {version('faster-paddle')} small"

    def read(self, picture: Picture) -> list[Line]:
        from ..storage.png_encode import encode

        bounds = self._engine.ocr(encode(picture))["bounds"]
        height, width = picture.shape[:2]
        return [
            Line(
                str(one["text"]),
                float(one["confidence"]),
                _box((one["topLeftCoord"], one["bottomRightCoord"]), width, height),
            )
            for one in bounds.values()
        ]


class FolderReader:
    """A detector and a recogniser of text that transformers runs, as PP-OCR's of its versions 5 and 6, from two folders."""

    def __init__(self, detector: str, recogniser: str, device: str = "cpu") -> None:
        from safetensors import SafetensorError
        from transformers import AutoImageProcessor, AutoModelForObjectDetection, AutoModelForTextRecognition

        try:
            self._find = AutoModelForObjectDetection.from_pretrained(detector, local_files_only=True).to(device).eval()
            self._spell = (
                AutoModelForTextRecognition.from_pretrained(recogniser, local_files_only=True).to(device).eval()
            )
            self._frame = AutoImageProcessor.from_pretrained(detector, local_files_only=True)
            self._strip = AutoImageProcessor.from_pretrained(recogniser, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise BadInput(
                f"the text reader cannot be loaded from {detector} and {recogniser}: {error}; give the folder of a text "
                "detector and that of a recogniser, such as PP-OCRv6's, for transformers"
            ) from error
        self.name = f"{type(self._find).__name__}+{type(self._spell).__name__}"

    def read(self, picture: Picture) -> list[Line]:
        import torch

        height, width = picture.shape[:2]
        with torch.inference_mode():
            framed = self._frame(images=picture, return_tensors="pt").to(self._find.device)
            sizes = framed.pop("target_sizes", torch.tensor([[height, width]]))
            found = self._frame.post_process_object_detection(self._find(**framed), target_sizes=sizes)[0]
            boxes = [_box(box.reshape(-1, 2), width, height) for box in np.asarray(found["boxes"].cpu(), float)]
            crops = [(box, _cut(picture, box)) for box in boxes[:MAX_LINES]]
            lines = []
            for box, crop in crops:
                if crop.shape[0] < 4 or crop.shape[1] < 4:
                    continue
                strip = self._strip(images=crop, return_tensors="pt").to(self._spell.device)
                text = self._strip.post_process_text_recognition(self._spell(**strip))[0]
                lines.append(Line(str(text["text"]), float(text["score"]), box))
        return sorted(lines, key=lambda line: (round(line.box[1], 2), line.box[0]))


def _cut(picture: Picture, box: Box) -> Picture:
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    return picture[int(top * height) : int(np.ceil(bottom * height)), int(left * width) : int(np.ceil(right * width))]


READERS: Mapping[str, tuple[tuple[str, ...], Callable[[], Reader]]] = {
    "rapidocr": (("rapidocr", "onnxruntime"), RapidReader),
    "faster-paddle": (("faster_paddle",), FasterPaddleReader),
}
"""Package -> the modules it needs and its reader. The first that is installed is taken."""


def installed() -> tuple[str, ...]:
    """The packages that read text and are installed."""
    return tuple(name for name, (modules, _) in READERS.items() if all(map(importlib.util.find_spec, modules)))


def load_reader(name: str = "", device: str = "cpu") -> Reader:
    """Load a text reader: a package of READERS, two folders with a + between (detector+recogniser), or "" for the first
    package that is installed.

    device: that a reader from folders runs on, as torch names it.

    Raises BadInput if there is none.
    """
    if name and name not in READERS:
        detector, plus, recogniser = name.partition("+")
        if not plus:
            raise BadInput(
                f"there is no text reader {name!r}; give {' or '.join(READERS)}, or the folders of a detector and a "
                "recogniser as DETECTOR+RECOGNISER"
            )
        return FolderReader(detector, recogniser, device)
    there = installed()
    if not there or (name and name not in there):
        raise BadInput(
            f"reading text in pictures needs {name or 'a text reader'}, which is not installed; pip install "
            f"{'rapidocr onnxruntime' if name in ('', 'rapidocr') else name}, or install clvr with its extra: clvr[text]"
        )
    return READERS[name or there[0]][1]()
