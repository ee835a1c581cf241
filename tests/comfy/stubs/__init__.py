"""A second pack beside ours in the ComfyUI of the tests: models that answer at once by a script, and what a hostile graph would bring.

Each goal is met once the picture has been drawn over often enough: its first pixel counts how many drawings it has behind it.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io


@cache
def pack() -> SimpleNamespace:
    """Our own modules, under whatever name ComfyUI gave them."""
    name = next(name for name in sys.modules if name.endswith("clvr.nodes.host.sockets")).removesuffix(
        ".nodes.host.sockets"
    )
    return SimpleNamespace(
        sockets=sys.modules[f"{name}.nodes.host.sockets"],
        protocols=sys.modules[f"{name}.clvr_core.protocols"],
        errors=sys.modules[f"{name}.clvr_core.errors"],
    )


@contextmanager
def busy(what: str):
    """Tells when a model began and ended, in seconds, and how many the processor had worked by then, so that it can be told from what the
    loop takes."""
    began = time.time(), time.process_time()
    yield
    print("stub: busy", what, *(f"{moment:.6f}" for moment in (*began, time.time(), time.process_time())), flush=True)


USUAL: dict[str, Any] = {
    "goals": 3,
    "halves": 2,  # of goals, that each drawing meets
    "width": 64,
    "height": 64,
    "grain": 0,  # how far a value may be off its patch's, as in a photograph
    "steps": 1,
    "step_seconds": 0.0,
    "tokens": 1,
    "token_seconds": 0.0,
    "words": "the missing thing in its place, and everything else exactly as it is",
    "kind": "",  # of every action; else GENERATE, then EDIT
    "reply": "",  # of every chat, in place of JSON of the schema
    "fails": "",  # chat, decide or both: gives no answer
    "fails_after": 0,  # answers
    "fails_with": "JudgeFailure",
}


class Eyes:
    name = "stub eyes"

    def __init__(self, script: dict[str, Any]) -> None:
        self.script, self.answers = script, 0

    def answer(self, kind: str) -> None:
        script = self.script
        for _ in range(script["tokens"]):
            print(
                "stub: token, cancelled" if comfy.model_management.processing_interrupted() else "stub: token",
                flush=True,
            )
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(script["token_seconds"])
        self.answers += 1
        if script["fails"] in (kind, "both") and self.answers > script["fails_after"]:
            known = {"JudgeFailure": pack().errors.JudgeFailure, "OSError": OSError, "TimeoutError": TimeoutError}
            raise known[script["fails_with"]]("the stub gives no answer")

    @busy("chat")
    def chat(self, messages, schema):
        self.answer("chat")
        data, script, words = messages[-1].data, self.script, self.script["words"]
        if script["reply"]:
            return pack().protocols.Reply(script["reply"], tokens=1)
        if data.get("task") == "fused":
            value = self.fused(messages[-1].images, schema["properties"])
        elif data.get("task") == "evidence":
            value = {"seen": [{"goal": goal, "seen": words} for goal in data["goals"]]}
        elif data.get("task") == "goals":
            value = {
                "goals": [{"text": f"{words}, number {number}", "kind": "local"} for number in range(script["goals"])]
            }
        else:
            kind = script["kind"] or ("GENERATE" if data["current"] is None else "EDIT")
            value = {
                "kind": kind,
                "summary": words,
                "edit_prompt": words,
                "scene_prompt": words,
                "goals": data["focus"][:2],
            }
        return pack().protocols.Reply(json.dumps(value), tokens=1)

    @busy("decide")
    def decide(self, images, questions):
        self.answer("decide")
        task = questions[0].data["task"]
        if task != "goal":
            yes = [0.1 if task == "plan-check" else 0.9] * len(questions)
        else:
            yes = [self.share(images[0], question.data["goal"]["id"]) for question in questions]
        return [pack().protocols.Decision(each, tokens=1) for each in yes]

    def share(self, picture, goal: str) -> float:
        halves, number = int(picture[0, 0, 0]) * self.script["halves"], int(goal[1:])
        return 0.95 if halves >= 2 * number else 0.5 if halves == 2 * number - 1 else 0.05

    def fused(self, images, fields) -> dict[str, Any]:
        """Of the newest canvas, which is the one that is drawn over most often."""
        newest = max(images, key=lambda picture: picture[0, 0, 0])
        goals = fields["verdicts"]["items"]["properties"]["goal"]["enum"]
        states = {goal: "met" if self.share(newest, goal) > 0.9 else "unmet" for goal in goals}
        wanting, words = [goal for goal in goals if states[goal] == "unmet"], self.script["words"]
        verdicts = [{"goal": goal, "state": state, "evidence": words} for goal, state in states.items()]
        return {
            "verdicts": verdicts,
            "kind": "EDIT" if wanting else "END",
            "edit_prompt": words,
            "summary": words,
            "goals": wanting[:2],
        }


class Hands:
    """Flat patches by the seed. A drawing that edits counts one more than its reference."""

    name = "stub hands"

    def __init__(self, script: dict[str, Any]) -> None:
        self.script, self.check = script, lambda: None

    def nfe(self, request) -> int:
        return 4

    @busy("draw")
    def draw(self, requests):
        for _ in range(self.script["steps"]):
            print(
                "stub: step, cancelled" if comfy.model_management.processing_interrupted() else "stub: step", flush=True
            )
            time.sleep(self.script["step_seconds"])
            self.check()
        return [pack().protocols.Drawing(self.picture(request), 4) for request in requests]

    def picture(self, request):
        random, grain = np.random.default_rng(request.seed), self.script["grain"]
        patches = random.integers(0, 256 - grain, (8, 8, 3), dtype=np.uint8)
        tall, wide = -(-request.height // 8), -(-request.width // 8)
        picture = np.kron(patches, np.ones((tall, wide, 1), np.uint8))[: request.height, : request.width]
        if grain:
            picture = picture + random.integers(0, grain + 1, picture.shape, dtype=np.uint8)
        picture[0, 0] = 1 + (int(request.references[0][0, 0, 0]) if request.references else 0)
        return picture


class Models(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Stub_Models",
            category="stubs",
            inputs=[io.String.Input("script", default="{}")],
            outputs=[io.Custom("CLVR_VLM").Output(), io.Custom("CLVR_EXECUTOR").Output()],
        )

    @classmethod
    def execute(cls, script: str) -> io.NodeOutput:
        said = USUAL | json.loads(script)
        return io.NodeOutput(
            Eyes(said),
            pack().sockets.ExecutorHandle(Hands(said), said["width"], said["height"], lambda text: None, script),
        )


class Anything(io.ComfyNode):
    """Of a type that fits every input, which is how a hostile graph brings a wrong value past the server's checks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Stub_Anything",
            category="stubs",
            inputs=[io.String.Input("value", default="null")],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, value: str) -> io.NodeOutput:
        return io.NodeOutput(
            10_000_000 * "x" if value == "long" else torch.zeros(1, 8, 8, 3) if value == "image" else json.loads(value)
        )


class Detector(io.ComfyNode):
    """ComfyUI's own RT-DETR with random weights, as a MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="Stub_Detector", category="stubs", inputs=[], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        import comfy.ops
        import comfy.sd
        from comfy.ldm.rt_detr.rtdetr_v4 import RTv4

        random = torch.Generator().manual_seed(0)
        weights = {}
        for name, value in RTv4(operations=comfy.ops.disable_weight_init).state_dict().items():
            if not value.is_floating_point():
                weights[name] = value
            elif value.ndim > 1:
                weights[name] = torch.randn(value.shape, generator=random) * 0.02
            else:
                weights[name] = torch.ones_like(value) if name.endswith(("var", "weight")) else torch.zeros_like(value)
        return io.NodeOutput(comfy.sd.load_diffusion_model_state_dict(weights))


class Hear(io.ComfyNode):
    """What the witnesses of a vision model say of goals on a picture, as JSON: goal -> a list of kind, answer and words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Custom("CLVR_VLM").Input("vlm"), io.Image.Input("image"), io.String.Input("goals", default="[]")]
        return io.Schema(node_id="Stub_Hear", category="stubs", inputs=inputs, outputs=[io.String.Output()])

    @classmethod
    def execute(cls, vlm: Any, image: torch.Tensor, goals: str) -> io.NodeOutput:
        brief = sys.modules[pack().protocols.__name__.replace(".protocols", ".brief")]
        asked = [brief.Goal(f"g{number}", text) for number, text in enumerate(json.loads(goals), 1)]
        heard = vlm.hear((image[0].numpy() * 255).astype(np.uint8), asked, {}, {})
        said = {goal: [[one.witness, one.says, one.words] for one in each] for goal, each in heard.said.items()}
        return io.NodeOutput(json.dumps({"said": said, "warnings": heard.warnings}))


class Stubs(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [Models, Anything, Detector, Hear]


async def comfy_entrypoint() -> Stubs:
    return Stubs()
