from __future__ import annotations

import comfy.utils
import torch
from comfy_api.latest import io

from ...clvr_core.errors import BadInput
from ...clvr_core.run.start_image import crop_to_size
from ..host.calibrations import calibration_file, calibration_name
from ..host.pictures import as_image, as_pictures
from ..host.progress import interruptible, show_text
from ..host.sockets import EXECUTOR, ExecutorHandle


class MeasureDrift(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_MeasureDrift",
            display_name="Measure Drift",
            category="CLVR/evaluation",
            description="Asks the executor ten times to change nothing, of the clean picture and of its own answers, and for ten "
            "small edits in a row, and measures what happens to the rest. What follows for depth and tolerance is kept, and "
            "Brief and Generate in a Loop use it from then on.",
            search_aliases=[
                "pixel shift",
                "color shift",
                "drift",
                "consistency",
                "self test",
                "edit degradation",
                "calibrate",
            ],
            inputs=[
                EXECUTOR.Input("executor", tooltip="The executor to measure; it draws 30 pictures."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="A clean picture to begin with, with a red apple, a blue cup and a green book in it, since "
                    "the edits speak of them. Left open, the executor draws one.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Same seed, same pictures.",
                ),
            ],
            outputs=[
                io.Image.Output("curve", tooltip="Damage to what was to stay, over the edits in a row."),
                io.Int.Output("depth", tooltip="Edits in a row that this executor can do before the damage is seen."),
                io.Float.Output("tolerance", tooltip="Damage above which an edit by this executor is repaired."),
                io.String.Output("report", tooltip="The figures of the curve."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, executor: ExecutorHandle, image: torch.Tensor | None = None, seed: int = 0) -> io.NodeOutput:
        from ...clvr_core.evaluation.drift import in_words, measure_drift, trial_for
        from ...clvr_core.evaluation.drift_plot import plot_drift
        from ...clvr_core.run.calibration import write_calibration

        width, height = executor.width, executor.height
        given = None if image is None else crop_to_size(as_pictures(image)[0], width, height)
        bar, trial = comfy.utils.ProgressBar(30), trial_for(executor.check, BadInput)
        with interruptible(executor.executor):
            report, _ = measure_drift(
                executor.executor, width, height, trial, given, seed=seed, progress=bar.update_absolute
            )
        found = report.calibration
        write_calibration(calibration_file(), calibration_name(executor), found)
        show_text(f"depth {found.depth}, tolerance {found.tolerance:g}")
        return io.NodeOutput(as_image(plot_drift(report)), found.depth, found.tolerance, in_words(report))
