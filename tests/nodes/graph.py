"""A prompt executed without ComfyUI: nodes in the order of their links, one cache, lazy inputs, expansion. And models
by a script for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clvr_core.run.run_folder import RunFolder, trajectory_from
from clvr_core.trajectory import Trajectory
from tests.fakes import FakeExecutor, FakeVlm
from tests.nodes.pack import NODES, stubs

utils, progress = stubs["comfy_execution.utils"], stubs["comfy_execution.progress"]
graph_utils, io = stubs["comfy_execution.graph_utils"], stubs["comfy_api.latest.io"]


class Graph:
    """A prompt in ComfyUI's API format, whose inputs may also be Python objects.

    `ran`: class types in the order in which their nodes were executed. `outputs`: node id -> what it returned.
    """

    def __init__(self, prompt: dict[str, dict[str, Any]], extra_pnginfo: dict[str, Any] | None = None) -> None:
        self.nodes, self.extra_pnginfo = dict(prompt), extra_pnginfo
        self.ran: list[str] = []
        self.outputs: dict[str, Any] = {}

    # ComfyUI's DynamicPrompt, as nodes see it.
    def get_node(self, node: str) -> dict[str, Any]:
        return self.nodes[node]

    def all_node_ids(self) -> list[str]:
        return list(self.nodes)

    def get_display_node_id(self, node: str) -> str:
        return self.nodes[node].get("override_display_id") or node

    def run(self, node: str) -> tuple[Any, ...]:
        """The node's outputs, executed if they are not cached."""
        if node not in self.outputs:
            self.outputs[node] = self._execute(node)
        return tuple(self.value(each) for each in self.outputs[node].args)

    def value(self, value: Any) -> Any:
        return self.run(value[0])[value[1]] if graph_utils.is_link(value) else value

    def _execute(self, node: str) -> Any:
        made = self.nodes[node]
        cls = NODES[made["class_type"]]
        schema = cls.define_schema()
        inputs = {each.id: each for each in schema.inputs}
        lazy = [name for name, each in inputs.items() if each.lazy]
        raw = [name for name, each in inputs.items() if each.options.get("rawLink")]
        given = {
            name: value if name in raw else None if name in lazy else self.value(value)
            for name, value in made["inputs"].items()
            if name in inputs
        }
        prompt = json.loads(json.dumps(self.nodes, default=str))
        values = {"unique_id": node, "prompt": prompt, "extra_pnginfo": self.extra_pnginfo, "dynprompt": self}
        asked = {each.name for each in schema.hidden}
        hidden = io.HiddenHolder(**{name: value for name, value in values.items() if name in asked})
        bound = type(cls.__name__, (cls,), {"hidden": hidden})
        if lazy:
            with Executing(self, node):
                wanted = bound.check_lazy_status(**given)
            given |= {name: self.value(made["inputs"][name]) for name in wanted}
        self.ran.append(made["class_type"])
        with Executing(self, node):
            output = bound.execute(**given)
        self.nodes |= output.expand or {}
        return output


class Executing:
    """Makes a node of the graph the one that is executing."""

    def __init__(self, graph: Graph, node: str) -> None:
        self.graph, self.node = graph, node

    def __enter__(self) -> None:
        utils.current = utils.ExecutionContext("prompt", self.node)
        progress.state.dynprompt = self.graph
        graph_utils.GraphBuilder.prefix = self.node
        if server := stubs["server"].PromptServer.instance:
            server.last_node_id = self.node

    def __exit__(self, *_: object) -> None:
        utils.current, progress.state.dynprompt = None, None


def scripted(goals: int = 3, name: str = "vlm") -> FakeVlm:
    """A vision model for FakeExecutor's grey pictures: goal number n holds from the n-th picture of the run on."""

    def reply(messages: Sequence[Any]) -> str:
        data = messages[-1].data
        if data["task"] == "goals":
            return json.dumps({"goals": [{"text": f"thing {number}"} for number in range(1, goals + 1)]})
        if data["task"] == "evidence":
            return json.dumps({"seen": [{"goal": goal, "seen": "nothing there"} for goal in data["goals"]]})
        kind = "GENERATE" if data["current"] is None else "EDIT"
        words = {"summary": "the missing thing", "edit_prompt": "add the missing thing", "scene_prompt": "all things"}
        return json.dumps({"kind": kind, "goals": data["focus"][:2], **words})

    def decide(images: Sequence[Any], questions: Sequence[Any]) -> list[float]:
        if questions[0].data["task"] != "goal":
            return [0.1 if questions[0].data["task"] == "plan-check" else 0.9] * len(questions)
        drawn = int(images[0][0, 0, 0]) // 10
        return [0.95 if drawn >= int(question.data["goal"]["id"][1:]) else 0.05 for question in questions]

    return FakeVlm(reply, decide, name)


class Patient(FakeExecutor):
    """Draws by `scripted`'s count and not by the number of requests so far: an edit is ten brighter than its
    reference.
    """

    def __init__(self, name: str = "executor") -> None:
        super().__init__(name=name)
        self.check = lambda: None

    def _picture(self, request: Any) -> Any:
        self.check()
        picture = super()._picture(request).copy()
        picture[:] = 10 + (request.references[0][0, 0, 0] if request.references else 0)
        picture[0, 1] = request.seed % 251
        return picture


def settings(**changed: Any) -> dict[str, Any]:
    """Widgets of Brief and Generate."""
    usual = {"prompt": "three things", "strategy": "strokes", "seed": 1, "rounds": 6, "patience": 6, "candidates": 1}
    return usual | {"evaluations": 0} | changed


def loop(vlm: Any, executor: Any, **changed: Any) -> dict[str, dict[str, Any]]:
    """A whole loop, from brief to end."""
    inputs = {
        "brief": ("CLVR_Brief", {"vlm": vlm, "executor": executor, **settings(**changed)}),
        "start": ("CLVR_LoopStart", {"trajectory": ["brief", 0]}),
        "reason": ("CLVR_Reason", {"trajectory": ["start", 1], "vlm": vlm}),
        "execute": ("CLVR_ExecuteStep", {"trajectory": ["reason", 0], "executor": executor}),
        "verify": ("CLVR_Verify", {"trajectory": ["reason", 0], "vlm": vlm, "candidates": ["execute", 0]}),
        "end": ("CLVR_LoopEnd", {"flow": ["start", 0], "trajectory": ["verify", 0]}),
    }
    return {node: {"class_type": kind, "inputs": given} for node, (kind, given) in inputs.items()}


def recorded(folder: Path) -> Trajectory:
    return trajectory_from(RunFolder.open(folder).lines)
