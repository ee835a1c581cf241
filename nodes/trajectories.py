"""Nodes that save, load and show a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from comfy_api.latest import io, ui
from PIL import Image

from ..clvr_core.errors import BadInput
from ..clvr_core.protocols import Picture
from ..clvr_core.run.reading import read_journal
from ..clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder, trajectory_from
from ..clvr_core.storage.parameters import parameters_of_best
from ..clvr_core.storage.png import save_png, write_png
from ..clvr_core.trajectory import Step, Trajectory
from .host.file_names import name_error
from .host.metadata import embed_in_best, name_run
from .host.pictures import as_image, black, resize_to_first
from .host.progress import announce_run
from .host.run_folders import SAVED, changed_run, list_runs, require_inside, runs_folder
from .host.sockets import TRAJECTORY, Run
from .host.summaries import name_in_ui, preview_images, summary_of

CLEAN = "clean.png"
TILE = 384
"""Pixels of the longer side of a picture on the contact sheet."""


class SaveTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_SaveTrajectory",
            display_name="Save Trajectory",
            category="CLVR/trajectory",
            description="Keeps a run with all its pictures and a page to read under a name of your own, in the output "
            "folder under clvr/saved.",
            search_aliases=["save run", "export", "archive", "keep history", "report"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run."),
                io.String.Input(
                    "name", default="run", tooltip="Letters, digits, spaces, dots, dashes; a number is put behind it."
                ),
                io.Boolean.Input(
                    "clean_copy",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Saves the best picture once more as clean.png, without prompt, workflow or any other "
                    "metadata.",
                ),
            ],
            outputs=[io.String.Output("saved_as", tooltip="What Load Trajectory lists it as.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return True if name is None else name_error(name) or True

    @classmethod
    def execute(cls, trajectory: Run, name: str = "run", clean_copy: bool = False) -> io.NodeOutput:
        if error := name_error(name):
            raise BadInput(error)
        number, base = 1, runs_folder() / SAVED
        while (base / f"{name}-{number}").exists():
            number += 1
        saved = save(trajectory, require_inside(base / f"{name}-{number}"))
        embed_in_best(saved, cls.hidden)
        if clean_copy and (best := trajectory.trajectory.best) is not None:
            write_png(saved.folder / CLEAN, RunFolder(saved.folder, []).picture(best), {})
        return io.NodeOutput(f"{SAVED}/{saved.folder.name}", ui=preview_images(saved))


class LoadTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_LoadTrajectory",
            display_name="Load Trajectory",
            category="CLVR/trajectory",
            description="Opens a run that lies in the output folder under clvr, finished, cancelled or saved under a "
            "name.",
            search_aliases=["open run", "import", "history", "resume"],
            inputs=[
                io.Combo.Input(
                    "run", options=list_runs(), tooltip="The runs there are, saved ones first, the newest on top."
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
        state = (require_inside(runs_folder() / run) / JOURNAL).stat()
        return [state.st_mtime_ns, state.st_size]

    @classmethod
    def execute(cls, run: str = "") -> io.NodeOutput:
        path = require_inside(runs_folder() / run)
        folder = RunFolder(path, read_journal(path).lines)
        try:
            trajectory = trajectory_from(folder.lines)
        except ValueError as error:
            raise BadInput(f"run {run} cannot be read: {error}") from error
        name_run(folder.path, cls.hidden)
        best, brief = trajectory.best, trajectory.brief
        image = black(brief.height, brief.width) if best is None else as_image(folder.picture(best))
        return io.NodeOutput(image, Run(trajectory, folder.path, len(folder.lines)), summary_of(trajectory))


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
                io.String.Output("told", display_name="text", tooltip="The same in words, a line a round."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, trajectory: Run, columns: int = 4) -> io.NodeOutput:
        from ..clvr_core.report.sheet import contact_sheet

        folder, run = RunFolder(trajectory.folder, []), trajectory.trajectory
        announce_run(trajectory.folder)
        name_run(trajectory.folder, cls.hidden)
        lines = [step_line(run, step) for step in run.steps]
        drawn = [(step, line) for step, line in zip(run.steps, lines) if step.chosen is not None]
        if not drawn:
            raise BadInput("this run has drawn nothing yet, so there is nothing to look at")
        pictures = resize_to_first([thumbnail(folder.picture(step.chosen)) for step, _ in drawn])
        scale = max(1, 256 // max(pictures[0].shape[:2]))
        sheet = as_image(
            contact_sheet([(picture, line) for picture, (_, line) in zip(pictures, drawn)], columns, scale)
        )
        shown = ui.PreviewImage(sheet, cls=cls).as_dict() | name_in_ui(trajectory)
        return io.NodeOutput(sheet, "\n".join([*lines, summary_of(run)]), ui=shown)


def thumbnail(picture: Picture) -> Picture:
    """Shrink the picture to TILE pixels a side at most: fifty rounds at full size would fill the memory."""
    image = Image.fromarray(picture)
    image.thumbnail((TILE, TILE))
    return np.asarray(image)


def step_line(run: Trajectory, step: Step) -> str:
    """Return one line on a step: its number, its action, whether its picture was kept, the goals met."""
    met = sum(verdict.state == "met" for verdict in step.verdicts)
    goals = f", {met} of {len(run.goals)} goals met" if step.verdicts else ""
    best = ", the best" if step.chosen is not None and step.chosen == run.best else ""
    return f"{step.index + 1} {step.action.kind}: {'kept' if step.accepted else 'rolled back'}{goals}{best}"


def save(run: Run, path: Path) -> Run:
    """Copy the run, with best picture and report, into this new folder. Raises BadInput if its journal has changed."""
    from ..clvr_core.report.html import write_report

    source, trajectory = RunFolder(run.folder, read_journal(run.folder).lines), run.trajectory
    if trajectory_from(source.lines[: run.position]) != trajectory:
        raise changed_run(run.folder)
    folder = source.fork(path, run.position, trajectory.brief.budget)
    if trajectory.best is not None:
        texts = parameters_of_best(trajectory)
        save_png(path / BEST, folder.picture(trajectory.best), trajectory, trajectory.best, texts=texts)
    write_report(trajectory, folder.canvas_path, path / REPORT)
    folder.close()
    return Run(trajectory, path, run.position, run.executor)
