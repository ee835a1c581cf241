"""Runs as files: keeping one under a name, opening it again, looking at it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from comfy_api.latest import io, ui
from PIL import Image

from ..clvr_core.errors import BadInput
from ..clvr_core.protocols import Picture
from ..clvr_core.report import contact_sheet, write_report
from ..clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder, trajectory_from
from ..clvr_core.storage.png import save_png
from ..clvr_core.trajectory import Step, Trajectory
from .host.metadata import carry_workflow, remember
from .host.pictures import as_image, black, of_one_size
from .host.sockets import TRAJECTORY, Run
from .loop.host_session import inside, runs, shown, summary_of, tell

SAVED = "saved"
NAME = re.compile(r"\w[\w .-]{0,63}")
LISTED = 200
TILE = 384
"""Pixels."""


class SaveTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_SaveTrajectory",
            display_name="Save Trajectory",
            category="CLVR/trajectory",
            description="Keeps a run with all its pictures and a page to read under a name of your own, in the output folder under "
            "clvr/saved.",
            search_aliases=["save run", "export", "archive", "keep history", "report"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run."),
                io.String.Input(
                    "name", default="run", tooltip="Letters, digits, spaces, dots, dashes; a number is put behind it."
                ),
            ],
            outputs=[io.String.Output("saved_as", tooltip="What Load Trajectory lists it as.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return True if name is None or NAME.fullmatch(name) else refused(name)

    @classmethod
    def execute(cls, trajectory: Run, name: str = "run") -> io.NodeOutput:
        if not NAME.fullmatch(name):
            raise BadInput(refused(name))
        number, base = 1, runs() / SAVED
        while (base / f"{name}-{number}").exists():
            number += 1
        kept = keep(trajectory, inside(base / f"{name}-{number}"))
        carry_workflow(kept, cls.hidden)
        return io.NodeOutput(f"{SAVED}/{kept.folder.name}", ui=shown(kept, f"clvr/{SAVED}"))


class LoadTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_LoadTrajectory",
            display_name="Load Trajectory",
            category="CLVR/trajectory",
            description="Opens a run that lies in the output folder under clvr, finished, cancelled or saved under a name.",
            search_aliases=["open run", "import", "history", "resume"],
            inputs=[
                io.Combo.Input(
                    "run", options=listed(), tooltip="The runs there are, saved ones first, the newest on top."
                )
            ],
            outputs=[
                io.Image.Output("image", tooltip="Its best picture; black if it has none yet."),
                TRAJECTORY.Output("trajectory", tooltip="All that was planned, drawn and judged."),
                io.String.Output(
                    "summary", tooltip="What came out, in a sentence, and any warning in a line of its own."
                ),
            ],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, run: str = "") -> list[int]:
        state = (inside(runs() / run) / JOURNAL).stat()
        return [state.st_mtime_ns, state.st_size]

    @classmethod
    def execute(cls, run: str = "") -> io.NodeOutput:
        folder = RunFolder.open(inside(runs() / run))
        try:
            told = trajectory_from(folder.lines)
        except ValueError as error:
            raise BadInput(f"run {run} cannot be read: {error}") from error
        remember(folder.path, cls.hidden)
        image = black(told.brief.height, told.brief.width) if told.best is None else as_image(folder.picture(told.best))
        return io.NodeOutput(image, Run(told, folder.path, len(folder.lines)), summary_of(told))


class ViewTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_ViewTrajectory",
            display_name="View Trajectory",
            category="CLVR/trajectory",
            description="Every round at one glance: what was proposed, what was kept, how many goals held.",
            search_aliases=["contact sheet", "timeline", "rounds", "history", "grid", "compare"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run."),
                io.Int.Input("columns", default=4, min=1, max=16, advanced=True, tooltip="Pictures in a row."),
            ],
            outputs=[
                io.Image.Output("sheet", tooltip="The rounds side by side, each with its words."),
                io.String.Output("told", tooltip="The same in words, a line a round."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, trajectory: Run, columns: int = 4) -> io.NodeOutput:
        folder, told = RunFolder(trajectory.folder, []), trajectory.trajectory
        tell(trajectory.folder)
        remember(trajectory.folder, cls.hidden)
        lines = [line_of(told, step) for step in told.steps]
        drawn = [(step, line) for step, line in zip(told.steps, lines) if step.chosen is not None]
        if not drawn:
            raise BadInput("this run has drawn nothing yet, so there is nothing to look at")
        pictures = of_one_size([shrunk(folder.picture(step.chosen)) for step, _ in drawn])
        scale = max(1, 256 // max(pictures[0].shape[:2]))
        sheet = as_image(
            contact_sheet([(picture, line) for picture, (_, line) in zip(pictures, drawn)], columns, scale)
        )
        return io.NodeOutput(sheet, "\n".join([*lines, summary_of(told)]), ui=ui.PreviewImage(sheet, cls=cls))


def shrunk(picture: Picture) -> Picture:
    """At most TILE pixels a side: fifty rounds at full size would fill the memory."""
    image = Image.fromarray(picture)
    image.thumbnail((TILE, TILE))
    return np.asarray(image)


def line_of(told: Trajectory, step: Step) -> str:
    met = sum(verdict.state == "met" for verdict in step.verdicts)
    goals = f", {met} of {len(told.goals)} goals met" if step.verdicts else ""
    best = ", the best" if step.chosen is not None and step.chosen == told.best else ""
    return f"{step.index + 1} {step.action.kind}: {'kept' if step.accepted else 'rolled back'}{goals}{best}"


def keep(run: Run, path: Path) -> Run:
    """The run as far as it came, in a folder of its own."""
    source, told = RunFolder.open(run.folder), run.trajectory
    if trajectory_from(source.lines[: run.position]) != told:
        raise BadInput(
            f"{run.folder.name} in the output folder under clvr is not the run that it was; run the graph anew"
        )
    folder = source.fork(path, run.position, told.brief.budget)
    if told.best is not None:
        save_png(path / BEST, folder.picture(told.best), told, told.best)
    write_report(told, folder.canvas_path, path / REPORT)
    return Run(told, path, run.position, run.executor)


def listed() -> list[str]:
    found = [path for folder in (runs() / SAVED, runs()) for path in newest(folder) if (path / JOURNAL).is_file()]
    return [path.relative_to(runs()).as_posix() for path in found[:LISTED]]


def newest(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns) if folder.is_dir() else []


def refused(name: str) -> str:
    return f"name is {name!r:.80}; it may have at most 64 letters, digits, spaces, dots and dashes, a letter or digit first"
