from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...clvr_core.brief import MAX_PROMPT
from ...clvr_core.brief_list import rows_of
from ...clvr_core.errors import BadInput
from ...clvr_core.records import from_json
from . import inputs

EXAMPLE = "a red cat at the top left\na blue car at the middle center"
KINDS = (".txt", ".csv", ".jsonl")
NONE = "none"
LARGEST = 8 << 20
"""Bytes of a file that is read."""


@dataclass(frozen=True, slots=True)
class Row:
    """A brief of the list. seed: None for the node's own. id: "" for the number of its line."""

    prompt: str
    seed: int | None = None
    id: str = ""


def briefs_of(text: str) -> list[Row]:
    """Return the briefs of a list. Raises BadInput naming the line for what is not known or out of range."""
    found = []
    for number, row in rows_of(text):
        row = {"prompt": row} if isinstance(row, str) else row
        try:
            if not isinstance(row, dict):
                raise BadInput(f"it is {row!r:.40}, and should be a prompt or an object with one")
            if unknown := sorted(row.keys() - {"prompt", "seed", "id"}):
                raise BadInput(f"{unknown[0]!r:.40} is not known here; a list has prompt, seed and id")
            if isinstance(seed := row.get("seed"), str):
                row = {**row, "seed": int(seed) if seed.isdecimal() and len(seed) < 20 else seed}
            brief = from_json(Row, row, "brief")
            if error := _error(brief):
                raise BadInput(error)
        except ValueError as error:
            raise BadInput(f"line {number} of the list: {error}") from error
        found.append(brief if brief.id else Row(brief.prompt, brief.seed, str(number)))
    return found


def _error(brief: Row) -> str:
    if not brief.prompt.strip():
        return "its prompt is empty"
    if len(brief.prompt) > MAX_PROMPT:
        return f"its prompt has {len(brief.prompt):,} characters; at most {MAX_PROMPT:,} are read"
    return (
        "" if brief.seed is None or 0 <= brief.seed < 2**63 else f"its seed is {brief.seed}; it must be 0 to 2**63 - 1"
    )


class BriefList(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_BriefList",
            display_name="Briefs from a List",
            category="CLVR",
            description="Gives prompt after prompt: link its outputs to the prompt and the seed of Generate in a Loop, "
            "which then makes one run for each line. Cancelled, the same prompt goes on where it was: finished runs "
            "are read from their folders.",
            search_aliases=[
                "prompt list",
                "batch prompts",
                "csv",
                "jsonl",
                "many prompts",
                "queue",
                "from file",
                "loop over",
            ],
            inputs=[
                io.String.Input(
                    "briefs",
                    multiline=True,
                    default=EXAMPLE,
                    tooltip="A prompt a line; or CSV with a header that names prompt, and if you like seed and id; or JSON, such as "
                    '{"prompt": "a red cat", "seed": 3}, one a line.',
                ),
                io.Combo.Input(
                    "file",
                    options=list_files(),
                    default=NONE,
                    tooltip="A .txt, .csv or .jsonl file in ComfyUI's input folder, in place of the text above.",
                ),
                inputs.seed(),
                io.Int.Input(
                    "first",
                    default=1,
                    min=1,
                    max=1_000_000,
                    optional=True,
                    advanced=True,
                    tooltip="The first brief that is given, counted from 1.",
                ),
                io.Int.Input(
                    "most",
                    default=0,
                    min=0,
                    max=1_000_000,
                    optional=True,
                    advanced=True,
                    tooltip="Briefs that are given at most; 0: all. The pictures of all stay in memory until the prompt ends.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", is_output_list=True, tooltip="What each picture should show."),
                io.Int.Output(
                    "run_seed",
                    display_name="seed",
                    is_output_list=True,
                    tooltip="The seed of each, the node's own where the list has none.",
                ),
                io.String.Output("name", is_output_list=True, tooltip="The id of each, or the number of its line."),
                io.Int.Output("count", tooltip="Briefs that are given."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str = NONE, **_: object) -> list[int]:
        if file == NONE:
            return []
        state = _path(file).stat()
        return [state.st_mtime_ns, state.st_size]

    @classmethod
    def execute(cls, briefs: str = "", file: str = NONE, seed: int = 0, first: int = 1, most: int = 0) -> io.NodeOutput:
        found = briefs_of(briefs if file == NONE else _read(file))
        given = found[first - 1 :][: most or None]
        if not given:
            raise BadInput(f"first is {first}, and the list has {len(found)} briefs")
        seeds = [seed if brief.seed is None else brief.seed for brief in given]
        return io.NodeOutput([brief.prompt for brief in given], seeds, [brief.id for brief in given], len(given))


def list_files() -> list[str]:
    base = Path(folder_paths.get_input_directory())
    found = base.iterdir() if base.is_dir() else ()
    return [NONE, *sorted(path.name for path in found if path.suffix.lower() in KINDS and path.is_file())]


def _path(file: str) -> Path:
    """Return the path of a file of the input folder. Raises BadInput for any other."""
    base = folder_paths.get_input_directory()
    path = Path(base) / file
    if path.suffix.lower() not in KINDS or not folder_paths.is_within_directory(base, str(path)) or not path.is_file():
        raise BadInput(f"file is {file!r:.80}; it must be one of {', '.join(KINDS)} in ComfyUI's input folder")
    return path


def _read(file: str) -> str:
    path = _path(file)
    if path.stat().st_size > LARGEST:
        raise BadInput(f"{file} has {path.stat().st_size:,} bytes; at most {LARGEST:,} are read")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as UTF-8: {error}") from error
