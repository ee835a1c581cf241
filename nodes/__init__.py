"""Thin ComfyUI adapters over clvr_core: a node is its schema and a few lines."""

from __future__ import annotations

from comfy_api.latest import ComfyAPI, ComfyExtension, io
from server import PromptServer

from .benchmark import BenchmarkPrompts, BenchmarkScore
from .brief import BriefNode
from .executor import ExecutorNode
from .forecasting import add_routes as add_forecast
from .generate import Generate
from .links import guarded
from .loop import LoopEnd, LoopStart
from .merge import DSWMMerge, DSWMMergeLive
from .references import ApplyReferences
from .replaced import REPLACED
from .review import Review
from .reviewing import add_routes as add_review
from .routes import add_routes
from .server import ServerModel
from .shapes import ShapesModels
from .steps import ExecuteStep, Reason, Verify
from .trajectories import LoadTrajectory, SaveTrajectory, ViewTrajectory
from .vision import VisionModel


class ClvrExtension(ComfyExtension):
    async def on_load(self) -> None:
        for replaced in REPLACED:
            await ComfyAPI().node_replacement.register(replaced)
        if server := getattr(PromptServer, "instance", None):
            add_review(server)
            add_forecast(server.routes)
            add_routes(server.routes)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        models = [ShapesModels, VisionModel, ServerModel, ExecutorNode, DSWMMerge, DSWMMergeLive]
        loop = [BriefNode, LoopStart, Reason, ApplyReferences, ExecuteStep, Verify, Review, LoopEnd]
        runs = [SaveTrajectory, LoadTrajectory, ViewTrajectory]
        return [guarded(node) for node in (*models, Generate, *loop, *runs, BenchmarkPrompts, BenchmarkScore)]
