"""Strength Finder: tries strengths of a live merge on a small grid, and has the pictures compared by a vision model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io, ui

from ..clvr_core.errors import BadInput
from ..clvr_core.merge.presets import ALL
from ..clvr_core.merge.recipe import Lora
from ..clvr_core.protocols import Executor, Vlm
from .executor.fingerprint import fingerprint
from .host.pictures import as_image
from .host.progress import show_text
from .host.sockets import EXECUTOR, VLM, ExecutorLike
from .merge import files
from .merge.nodes import blocks, fp8, lora_list, preset

if TYPE_CHECKING:
    from ..clvr_core.strengths.finder import Found
    from ..clvr_core.strengths.grid import Space, Strengths

FOLDER = "clvr-strengths"
"""In the output folder: a folder for each search, by the digest of what is searched."""
MAX_BRIEFS = 20_000
"""Characters that the list of briefs may have."""


@dataclass(frozen=True)
class LiveMerge:
    """What is merged at every point of the grid; see `live_model`."""

    distilled: Any
    aligned: Any
    loras: tuple[Lora, ...]
    blocks: str
    fp8: str
    preset: str

    def at(self, base: Any, strengths: Strengths) -> Any:
        """Return the base's ModelPatcher with the deltas at these strengths."""
        from .merge.live_patch import live_model

        loras = [Lora(lora.path, lora.strength * strengths.lora) for lora in self.loras]
        others = self.aligned, self.distilled
        return live_model(base, *others, strengths.alpha, strengths.beta, self.blocks, self.fp8, loras, self.preset)

    def space(self, texts: dict[str, str], briefs: str, seeds: int, early: bool) -> Space:
        """Return the grid; an axis without an input has the one value 1. Raises BadInput for what cannot be searched."""
        from ..clvr_core.strengths.grid import Space, axis_from

        there = {"alphas": self.aligned, "betas": self.distilled, "lora_factors": self.loras}
        values = {name: axis_from(name, text) if there[name] else (1.0,) for name, text in texts.items()}
        lines = tuple(line.strip() for line in briefs.splitlines() if line.strip())
        return Space(**values, briefs=lines, seeds=tuple(range(seeds)), early=early)


def find_strengths(handle: ExecutorLike, vlm: Vlm, merge: LiveMerge, space: Space, key: str) -> tuple[Found, Any]:
    """Search, or go on with the search of this key. Return what was found, and the MODEL merged with the best
    strengths.
    """
    from ..clvr_core.strengths.finder import search
    from .executor.comfy_sampler import ComfyExecutor

    executor = handle.executor
    if not isinstance(executor, ComfyExecutor):
        raise BadInput(
            "executor has no MODEL of ComfyUI's that could be merged; link the executor output of Executor, whose model is the base"
        )
    for brief in space.briefs:
        handle.check(brief)

    def executor_at(strengths: Strengths) -> Executor:
        made = executor.with_model(merge.at(executor.model, strengths))
        made.check = comfy.model_management.throw_exception_if_processing_interrupted
        return made

    folder = Path(folder_paths.get_output_directory()) / FOLDER / key
    folder.mkdir(parents=True, exist_ok=True)
    found = search(space, executor_at, vlm, folder, key, handle.width, handle.height, progress_shown())
    return found, merge.at(executor.model, found.best)


def progress_shown() -> Callable[[int, int, str], None]:
    """Return a callback that moves the executing node's bar, says what is done next, and lets Cancel end the search."""
    before = ""

    def show(done: int, most: int, said: str) -> None:
        nonlocal before
        comfy.model_management.throw_exception_if_processing_interrupted()
        comfy.utils.ProgressBar(most).update_absolute(done, most)
        if said != before:
            show_text(said)
        before = said

    return show


def numbers(name: str, default: str, tooltip: str) -> io.String.Input:
    return io.String.Input(
        name, default=default, tooltip=f"{tooltip}; the first is preferred where the judge sees none."
    )


class StrengthFinder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_StrengthFinder",
            display_name="Strength Finder",
            category="CLVR/models",
            description="Finds the strengths of a merge: draws a few briefs at every point of a small grid of alpha, beta "
            "and LoRA factor, by live patches, has the vision model compare the pictures two at a time in both orders, "
            "and shows them on one sheet. Link alpha, beta and lora_factor to DSWM Merge to write the best. A search that "
            "was stopped goes on where it was.",
            search_aliases=["best strength", "lora strength", "xy plot", "grid search", "merge ratio", "weight tuning"],
            inputs=[
                EXECUTOR.Input("executor", tooltip="From Executor, whose model is the base; it draws with each merge."),
                VLM.Input("vlm", tooltip="Writes the goals of each brief and compares the pictures."),
                io.Model.Input("distilled", optional=True, tooltip="The model distilled to few steps."),
                io.Model.Input("aligned", optional=True, tooltip="Fine-tuned weights, or the base with a LoRA."),
                io.String.Input(
                    "briefs",
                    multiline=True,
                    default="",
                    tooltip="What the pictures should show, one brief a line, at most 8.",
                ),
                numbers("alphas", "1, 0.75, 0.5", "Values of alpha to try, where aligned is linked"),
                numbers("betas", "1", "Values of beta to try, where distilled is linked"),
                numbers(
                    "lora_factors", "1, 0.75, 0.5", "Factors on the strength of every LoRA to try, where there is one"
                ),
                io.Int.Input(
                    "pictures", default=2, min=1, max=8, tooltip="Pictures of each brief at each point, one a round."
                ),
                blocks(),
                fp8(),
                lora_list("loras", 1, "LoRA files, each with a strength; the list grows."),
                preset(),
                io.Boolean.Input(
                    "early_stop",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Leave the lower half of the points out after each round.",
                ),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The base with all deltas at the best strengths."),
                io.Float.Output("alpha", tooltip="The best alpha, for DSWM Merge."),
                io.Float.Output("beta", tooltip="The best beta, for DSWM Merge."),
                io.Float.Output("lora_factor", tooltip="The best factor on every LoRA, for DSWM Merge."),
                io.Image.Output("sheet", tooltip="A row for each point, the best first, a column for each picture."),
                io.String.Output("summary", tooltip="The ranking in words, and any warning in a line of its own."),
            ],
            hidden=[io.Hidden.dynprompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, briefs: str | None = None, blocks: str | None = None, loras: Any = None) -> bool | str:
        if briefs is not None and len(briefs) > MAX_BRIEFS:
            return f"briefs has {len(briefs):,} characters; at most {MAX_BRIEFS:,} are read"
        return files.input_error(None, blocks)

    @classmethod
    def fingerprint_inputs(cls, loras: Any = None, **_: Any) -> list[str]:
        return files.stamps(loras or {})

    @classmethod
    def execute(
        cls,
        executor: ExecutorLike,
        vlm: Vlm,
        distilled: Any = None,
        aligned: Any = None,
        briefs: str = "",
        alphas: str = "1",
        betas: str = "1",
        lora_factors: str = "1",
        pictures: int = 2,
        blocks: str = "",
        fp8: str = "refuse",
        loras: Any = None,
        preset: str = ALL,
        early_stop: bool = True,
    ) -> io.NodeOutput:
        from ..clvr_core.strengths.finder import summary_of

        try:
            merge = LiveMerge(distilled, aligned, files.loras_in(loras or {}), blocks, fp8, preset)
            texts = {"alphas": alphas, "betas": betas, "lora_factors": lora_factors}
            space = merge.space(texts, briefs, pictures, early_stop)
        except BadInput as error:
            raise BadInput(files.in_widgets(str(error))) from error
        linked = {name: model for name, model in (("distilled", distilled), ("aligned", aligned)) if model is not None}
        weights = fingerprint(cls.hidden.dynprompt, linked), getattr(executor, "weights", "")
        strengths = [lora.strength for lora in merge.loras]
        parts = (
            weights,
            files.stamps(loras or {}),
            strengths,
            blocks,
            fp8,
            preset,
            vlm.name,
            space,
            executor.width,
            executor.height,
        )
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        found, model = find_strengths(executor, vlm, merge, space, key)
        text, sheet = summary_of(found, space), as_image(found.sheet)
        show_text(text)
        best = found.best
        return io.NodeOutput(model, best.alpha, best.beta, best.lora, sheet, text, ui=ui.PreviewImage(sheet, cls=cls))
