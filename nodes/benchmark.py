"""Nodes for benchmarks: one gives the next prompt of a benchmark, one scores its picture.

What the benchmarks need is imported where a node works: most who load the pack never score a picture.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from ..clvr_core.errors import BadInput
from ..clvr_core.evaluation.names import BENCHMARK_NAMES, KEPT, NAME, PROTOCOL_NAMES, may_hold_benchmark
from ..clvr_core.protocols import Vlm
from .host.pictures import as_image, as_pictures
from .host.sockets import BENCH_ITEM, VLM, BenchTask

if TYPE_CHECKING:
    from ..clvr_core.evaluation.benchmarks.base import Item

LISTED = 200
"""Folders of the input folder that are searched at most."""


def results_folder(task: BenchTask) -> Path:
    """Return the folder of the benchmark's pictures and answers."""
    return Path(folder_paths.get_output_directory()) / KEPT / task.bench.name


def with_statements(task: BenchTask, vlm: Vlm) -> BenchTask:
    """Return the task with statements for every item. The first judge writes those of one's own prompts to a file.

    Raises BadInput if it fails on an item.
    """
    from ..clvr_core.evaluation.atoms import draw_up, with_atoms

    results = results_folder(task)
    items = with_atoms(task.items, results)
    if any(not item.atoms and not item.scales for item in items):
        bar = comfy.utils.ProgressBar(len(items))

        def progress(done: int, total: int, remark: str) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)

        if failed := draw_up(vlm, items, results, statements=True, progress=progress):
            raise BadInput(f"item {failed[0][0]} was not taken apart: {failed[0][1]}; run again to go on")
        items = with_atoms(items, results)
    return replace(task, items=tuple(items), item=next(item for item in items if item.id == task.item.id))


class BenchmarkPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_BenchmarkPrompts",
            display_name="Benchmark Prompts",
            category="CLVR/evaluation",
            description="The prompts of a benchmark whose own files lie in a folder of ComfyUI's input folder, one at "
            "each run: GenEval, GenEval++, GenEval 2, WISE, PRISM, ImagineBench, LGBench, ImgEdit, or prompts of your "
            "own. No data come with this pack.",
            search_aliases=["geneval", "wise", "imgedit", "prompt list", "batch prompts", "next prompt"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=list_folders(),
                    tooltip="A folder in ComfyUI's input folder that holds a benchmark's files.",
                ),
                io.Combo.Input(
                    "benchmark",
                    options=["auto", *BENCHMARK_NAMES],
                    default="auto",
                    tooltip="auto: by the files in the folder.",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=1_000_000,
                    control_after_generate=io.ControlAfterGenerate.increment,
                    tooltip="Which picture, counted from 0 over all prompts and all pictures of each. Set it to "
                    "increment and queue as many runs as there are pictures.",
                ),
                io.Int.Input(
                    "pictures",
                    default=0,
                    min=0,
                    max=64,
                    advanced=True,
                    tooltip="Pictures of each prompt; 0: as many as the benchmark asks for.",
                ),
                io.Int.Input(
                    "run_seed",
                    default=0,
                    min=0,
                    max=2**31,
                    advanced=True,
                    tooltip="The seed of every picture is derived from it.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="What the picture should show; for an edit, the instruction."),
                BENCH_ITEM.Output("task", tooltip="For Score."),
                io.Int.Output(
                    "picture_seed",
                    display_name="seed",
                    tooltip="The picture's own, the same for every model that is compared.",
                ),
                io.Int.Output("count", tooltip="Pictures in all."),
                io.Image.Output("source", tooltip="The picture to edit; black where there is none."),
                io.String.Output("told", display_name="item", tooltip="Which item this is, and of which benchmark."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str = "", benchmark: str = "auto", **_: object) -> str:
        from ..clvr_core.evaluation.benchmarks import data_hash, recognise

        data = input_folder(folder)
        return data_hash(recognise(data, benchmark), data)

    @classmethod
    def execute(
        cls, folder: str, benchmark: str = "auto", index: int = 0, pictures: int = 0, run_seed: int = 0
    ) -> io.NodeOutput:
        from ..clvr_core.evaluation.benchmarks import recognise
        from ..clvr_core.evaluation.store import read_picture, seed_of

        data = input_folder(folder)
        bench = recognise(data, benchmark)
        items = tuple(bench.read(data))
        wanted = [(item, k) for item in items for k in range(min(item.pictures, pictures or item.pictures))]
        if index >= len(wanted):
            raise BadInput(f"index is {index}, and {folder} has {len(wanted)} pictures: the last is {len(wanted) - 1}")
        item, k = wanted[index]
        source = as_image(read_picture(data / item.source)) if item.source else torch.zeros((1, 64, 64, 3))
        place = f"{bench.title}, item {item.id} ({item.tag}), picture {k}: {index + 1} of {len(wanted)}"
        seed = seed_of(f"{run_seed}", item.id, k)
        return io.NodeOutput(item.prompt, BenchTask(bench, data, items, item, k), seed, len(wanted), source, place)


class BenchmarkScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_BenchmarkScore",
            display_name="Score",
            category="CLVR/evaluation",
            description="Judges a picture of Benchmark Prompts question by question. The picture lies in the "
            "benchmark's own layout in the output folder under clvr-eval, the answers in a JSONL file beside it; clvr "
            "eval score and report read both.",
            search_aliases=["evaluate", "benchmark score", "geneval score", "judge", "jsonl"],
            inputs=[
                BENCH_ITEM.Input("task", tooltip="From Benchmark Prompts."),
                io.Image.Input("image", tooltip="The picture that was drawn for it; of several the first."),
                VLM.Input("vlm", tooltip="The judge; best not the one that steered the picture."),
                io.String.Input(
                    "name",
                    default="run",
                    tooltip="What these pictures are called in the report. Letters, digits, dots, dashes.",
                ),
                io.Combo.Input(
                    "protocol",
                    options=list(PROTOCOL_NAMES),
                    default="decisions",
                    advanced=True,
                    tooltip="decisions: probabilities of yes and no. reply: one reply in JSON for the whole list.",
                ),
            ],
            outputs=[
                io.Boolean.Output(
                    "passed",
                    tooltip="Whether the picture is all that was asked for; false where the judge did not answer.",
                ),
                io.String.Output("told", display_name="answers", tooltip="What holds and what does not, a line each."),
                io.Float.Output(
                    "so_far",
                    tooltip="The benchmark's main score over all pictures scored under this name; 0 without an answer.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return (
            True
            if name is None or NAME.fullmatch(name)
            else f"name is {name!r:.80}; letters, digits, dots and dashes are expected"
        )

    @classmethod
    def execute(
        cls, task: BenchTask, image: torch.Tensor, vlm: Vlm, name: str = "run", protocol: str = "decisions"
    ) -> io.NodeOutput:
        from ..clvr_core.evaluation.score import Scoring, VlmJudge
        from ..clvr_core.evaluation.store import Arm

        task = with_statements(task, vlm)
        arm = Arm(results_folder(task), name)
        arm.save(task.bench, task.item, task.k, np.ascontiguousarray(as_pictures(image)[0]))
        scoring = Scoring(task.bench, task.data, arm, VlmJudge(vlm, task.items, protocol), task.items)
        line = scoring.one(task.item, task.k)
        headline = next(iter(scoring.standing()["measures"].values()))
        passed = task.bench.passed(task.item, line["answers"])
        return io.NodeOutput(passed == 1.0, "\n".join(answer_lines(task.item, line)), headline["value"] or 0.0)


def answer_lines(item: Item, line: dict) -> list[str]:
    """Return a line for each statement and scale, then for each missing answer. `line`: as `Scoring.one` made it."""
    lines = []
    for atom in item.atoms:
        value = line["answers"][atom.id]
        lines.append(f"{'no answer' if value is None else 'holds' if value >= 0.5 else 'does not hold'}: {atom.text}")
    for scale in item.scales:
        value = line["answers"][scale.id]
        lines.append(f"{scale.id}: {'no answer' if value is None else f'{value:.1f} of {scale.high:g}'}")
    return lines + [f"{name}: {why}" for name, why in line["reasons"].items() if why]


def list_folders() -> list[str]:
    """Return the folders of ComfyUI's input folder that hold a benchmark."""
    base = Path(folder_paths.get_input_directory())
    folders = [path for path in sorted(base.iterdir()) if path.is_dir()] if base.is_dir() else []
    # ComfyUI itself makes a folder there, for 3-D models.
    found = [path for path in folders[:LISTED] if may_hold_benchmark(path)]
    if not found:
        return []
    from ..clvr_core.evaluation.benchmarks import BENCHMARKS

    return [path.name for path in found if any(bench.find(path) for bench in BENCHMARKS.values())]


def input_folder(folder: str) -> Path:
    """Return the path of a folder in ComfyUI's input folder. Raises BadInput if it lies elsewhere, symbolic links
    resolved.

    The name may come from a workflow that somebody else made.
    """
    base = Path(folder_paths.get_input_directory())
    path = base / folder
    if not folder or path == base or not folder_paths.is_within_directory(str(base), str(path)):
        raise BadInput(f"folder is {folder!r:.80}, which does not lie in ComfyUI's input folder; pick one of the list")
    return path
