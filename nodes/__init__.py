"""Nodes of ComfyUI over clvr_core. A node is its schema and a few lines; each room below holds one kind of node."""

from __future__ import annotations

from comfy_api.latest import ComfyAPI, ComfyExtension, io
from server import PromptServer

from ..clvr_core.errors import BadInput, JudgeFailure
from .benchmark import BenchmarkPrompts, BenchmarkScore
from .executor.drift_node import MeasureDrift
from .executor.nodes import ExecutorNode
from .host.input_checks import guard_inputs
from .loop.brief_list_node import BriefList
from .loop.brief_node import BriefNode
from .loop.generate_node import Generate
from .loop.loop_nodes import LoopEnd, LoopStart
from .loop.references_node import ApplyReferences
from .loop.review_node import Review
from .loop.step_nodes import ExecuteStep, Reason, Verify
from .merge.nodes import DSWMMerge, DSWMMergeLive
from .quick.node import Quick
from .replaced import REPLACED
from .routes.again import add_routes as add_again
from .routes.forecast import add_routes as add_forecast
from .routes.review import add_routes as add_review
from .routes.runs import add_routes
from .stickers.nodes import StickerModels, StickerWeights
from .strengths import StrengthFinder
from .trajectories import LoadTrajectory, SaveTrajectory, ViewTrajectory
from .vlm.nodes import VisionModel
from .vlm.server_model import ServerModel
from .witness.node import WitnessesNode

for error in (BadInput, JudgeFailure):
    # ComfyUI shows the module of an error before its sentence, and that of a pack is a path; of a builtin it shows none.
    error.__module__ = "builtins"


class ClvrExtension(ComfyExtension):
    async def on_load(self) -> None:
        for replaced in REPLACED:
            await ComfyAPI().node_replacement.register(replaced)
        if server := getattr(PromptServer, "instance", None):
            add_again(server)
            add_review(server)
            add_forecast(server.routes)
            add_routes(server.routes)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        models = [
            StickerModels,
            StickerWeights,
            VisionModel,
            ServerModel,
            WitnessesNode,
            ExecutorNode,
            DSWMMerge,
            DSWMMergeLive,
            StrengthFinder,
        ]
        loop = [BriefNode, LoopStart, Reason, ApplyReferences, ExecuteStep, Verify, Review, LoopEnd]
        runs = [SaveTrajectory, LoadTrajectory, ViewTrajectory]
        measures = [BenchmarkPrompts, BenchmarkScore, MeasureDrift]
        return [guard_inputs(node) for node in (Quick, *models, Generate, BriefList, *loop, *runs, *measures)]
