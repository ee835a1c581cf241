"""A kept trajectory as training data: its steps, and the two formats that trainers of vision-language models read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import BadInput
from ..protocols import Picture
from ..reading import json_of
from ..records import from_json, to_json
from ..storage.atomic import write_bytes

ROWS, SHAREGPT, TRL, REJECTED = "trajectories.jsonl", "sharegpt.jsonl", "trl.jsonl", "rejected.jsonl"
IMAGES = "images"
SYSTEM = (
    "You paint a picture step by step. At each step say what is right, what is missing and what must stay, then call a tool: generate "
    "for a new picture, edit for a change of earlier ones. When every requirement of the request holds, say so and write DONE."
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One kept step of a trajectory.

    kind: GENERATE draws a new picture, EDIT changes an earlier one.
    thought: the step in the first person, with the failed attempts before it.
    summary, words: the summary of the step and the prompt of the executor.
    scene_prompt, edit_prompt, references: the proxy prompts distilled from the history. A reference is the place of an
        earlier turn, from 0; the first one is edited.
    image: the picture, a file of the data set.
    score: share of the goals that hold, 0 to 1.
    """

    kind: Literal["GENERATE", "EDIT"]
    thought: str
    summary: str
    words: str
    scene_prompt: str
    image: str
    edit_prompt: str = ""
    references: tuple[int, ...] = ()
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One kept trajectory.

    id: of the brief in the data set.
    prompt: the brief.
    seed: of the run.
    turns: the kept steps in order.
    closing: the last words, which say that every requirement holds.
    """

    id: str
    prompt: str
    seed: int
    turns: tuple[Turn, ...]
    closing: str


def read_rows(folder: Path) -> list[Row]:
    """Read the rows of a data set, without its images. Raises BadInput for a missing file or an unreadable line."""
    path = folder / ROWS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); make it with: clvr synthesize --out {folder}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(from_json(Row, json_of(line)))
        except ValueError as error:
            raise BadInput(f"{path} line {number}: {error}; mend the line or take it out") from error
    return rows


def read_trl(folder: Path, name: str = TRL, files: bool = False) -> list[dict[str, Any]]:
    """Read a file of messages as TRL's collator takes it: each picture, an RGB image of PIL, in place of its file's
    name.

    files: leave whole paths of the pictures instead, for `datasets.Dataset.from_list(..., on_mixed_types="use_json")`, which
        SFTTrainer takes: a column of pictures would give every text an empty one.

    Raises BadInput for a file that is missing or does not hold this.
    """
    found = _lines(folder / name)
    for line in found:
        for message in line["messages"]:
            for part in message["content"]:
                if part["type"] == "image":
                    path = folder / part["image"]
                    picture = _picture(path)
                    part["image"] = str(path.resolve()) if files else picture
    return found


def sharegpt_messages(folder: Path) -> list[dict[str, Any]]:
    """Read sharegpt.jsonl as rows of messages for SFTTrainer, like `read_trl(folder, files=True)`: the words up to a picture
    are a turn of the assistant, and the picture is one of the tool, from which nothing is learnt.

    Raises BadInput for a file that is missing or does not hold this.
    """
    rows = []
    for line in _lines(folder / SHAREGPT):
        human, said = (turn["value"] for turn in line["conversations"])
        messages = [_message("system", line["system"]), _message("user", human)]
        for place, words in enumerate(re.split(r"\n<IMG_GEN_\d+>\n\n", said)):
            messages.append(_message("assistant", words))
            for name in line["images"][place : place + 1]:
                _picture(folder / name)
                messages.append(_message("tool", f"canvas {place + 1}", str((folder / name).resolve())))
        rows.append({"id": line["id"], "messages": messages, "images": []})
    return rows


def read_sharegpt(folder: Path) -> list[dict[str, Any]]:
    """Read sharegpt.jsonl with its pictures, RGB images of PIL, in `images`; `<IMG_GEN_n>` in the words stands for the
    n-th.

    Raises BadInput for a file that is missing or does not hold this.
    """
    found = _lines(folder / SHAREGPT)
    for line in found:
        line["images"] = [_picture(folder / name) for name in line["images"]]
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json_of(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); make it anew with clvr synthesize") from error


def read_picture(path: Path) -> Picture:
    """Return a picture of a data set, uint8 H x W x 3. Raises BadInput if it cannot be read."""
    return np.asarray(_picture(path))


def _picture(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise BadInput(f"the picture {path} cannot be read ({error}); copy the folder images with the rows") from error


def write_rows(folder: Path, rows: Iterable[Row], rejected: Iterable[dict[str, Any]]) -> None:
    """Write all four files of the data set, each whole or not at all. Raises OSError."""
    for name, data in files_of(rows, rejected).items():
        write_bytes(folder / name, data)


def files_of(rows: Iterable[Row], rejected: Iterable[dict[str, Any]]) -> dict[str, bytes]:
    """Return the four files of the data set by their names."""
    rows = list(rows)
    return {
        ROWS: _text_of(map(to_json, rows)),
        SHAREGPT: _text_of(map(sharegpt, rows)),
        TRL: _text_of(map(trl, rows)),
        REJECTED: _text_of(rejected),
    }


def write_lines(path: Path, lines: Iterable[Any]) -> None:
    """Write a line of JSON for each value, the whole file or nothing. Raises OSError."""
    write_bytes(path, _text_of(lines))


def _text_of(values: Iterable[Any]) -> bytes:
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return text.encode(errors="backslashreplace")


def sharegpt(row: Row) -> dict[str, Any]:
    """Return the row in ShareGPT's format, with a placeholder at each picture; `images` lists the files."""
    steps = [f"{turn.thought}\n{_call(turn)}\n<IMG_GEN_{place}>" for place, turn in enumerate(row.turns, 1)]
    turns = [
        {"from": "human", "value": row.prompt},
        {"from": "gpt", "value": "\n\n".join([*steps, f"{row.closing}\nDONE"])},
    ]
    return {"id": row.id, "system": SYSTEM, "conversations": turns, "images": [turn.image for turn in row.turns]}


def trl(row: Row) -> dict[str, Any]:
    """Return the row as TRL's messages: an assistant turn for each step, and its picture in the tool turn after it.

    Every part has only its own keys, because a column type that fills in missing keys would make pictures of texts.
    """
    messages = [_message("system", text=SYSTEM), _message("user", text=row.prompt)]
    for place, turn in enumerate(row.turns, 1):
        messages.append(_message("assistant", text=f"<think>{turn.thought}</think>\n{_call(turn)}"))
        messages.append(_message("tool", text=f"canvas {place}", image=turn.image))
    messages.append(_message("assistant", text=f"<think>{row.closing}</think>\nDONE"))
    return {"id": row.id, "messages": messages, "images": []}


def _message(role: str, text: str, image: str = "") -> dict[str, Any]:
    parts = [{"type": "image", "image": image}] if image else []
    return {"role": role, "content": [*parts, {"type": "text", "text": text}]}


def _call(turn: Turn) -> str:
    if turn.kind == "GENERATE":
        call = {"name": "generate", "arguments": {"prompt": turn.words}}
    else:
        call = {
            "name": "edit",
            "arguments": {"prompt": turn.words, "ref_img_list": [place + 1 for place in turn.references]},
        }
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"
