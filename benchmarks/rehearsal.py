"""Rehearses workflow 2 and CLVR Quick with files of the published sizes, whose weights are random: FLUX.2 Klein 4B, its text encoder,
Qwen3-VL 4B and the VAE, by the published names, shapes and dtypes.

Says of each file whether ComfyUI's stock loader takes it, and what memory it needs beside what the forecast said of it; runs the judge,
the executor, the whole workflow and the one node, and cancels it. Nothing here says anything of pictures: random weights draw noise and
judge at random, so they cannot prove that they see, and `prove_sight` is off.

COMFYUI_DIR=... COMFYUI_PYTHON=... python benchmarks/rehearsal.py FOLDER [--weights fp8|bf16] [--side 512] [--steps 4] [--rounds 2]
    [--tokens 1536] [--stages make detect ask encode paint draw loop quick cancel diffusers] [--remove] [--size real|middle|tiny]

FOLDER becomes a base directory of ComfyUI: 14 GB with fp8, 25 GB with bf16. What a stage found is kept in FOLDER/rehearsal.json, and the
stage is not run again with the same options. `detect`, `ask`, `encode` and `paint` have one large model in memory at a time, `draw` and
`cancel` those of the executor, `loop` and `quick` all of them. A file is written when the first of the stages needs it; with --remove it
is deleted after the last of them, and the stages of one large model come one after the other: `--stages detect ask encode paint --remove`
needs 6 GB of disk with fp8 and 9 GB with bf16. --size: narrower models of the same classes; middle ones weigh 3.5 GB together, for a
machine on which the real ones take hours, and tiny ones are for a try of the rehearsal itself. On a GPU the memory that is taken on it is
asked of ComfyUI twice a second; that has not been run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from rehearsal_files import WIDTHS, File, files, write

from clvr_core.models.memory_plan import HEADROOM, Weights, file_weights, peak
from clvr_core.run.run_folder import RunFolder, trajectory_from
from tests.comfy import server as comfy_server
from tests.comfy.conftest import lent
from tests.comfy.server import ROOT, Comfy, error_of
from tests.waiting import until

WITHIN = 0.2
"""How far the measured peak may be from the plan."""
EXECUTOR = ("DiT", "text encoder", "VAE")
NEEDS = {
    "ask": ("VLM",),
    "encode": ("text encoder",),
    "paint": ("DiT", "VAE"),
    **dict.fromkeys(("draw", "cancel", "diffusers"), EXECUTOR),
    **dict.fromkeys(("make", "loop", "quick"), (*EXECUTOR, "VLM")),
}
"""Files of each stage but `detect`."""


class Watch:
    """Samples the memory of a process, in bytes, until it is left.

    most: its resident memory at most, with the pages of mapped weight files that were touched.
    own: the part of it that is no mapped file, which the system cannot take back.
    """

    def __init__(self, pid: int, comfy: Comfy | None = None) -> None:
        """comfy: the server whose GPU is watched as well, if it has one."""
        self.status, self._over = Path(f"/proc/{pid}/status"), threading.Event()
        self._threads = [threading.Thread(target=self._sample, daemon=True)]
        self.device = 0
        if comfy and self.on_device(comfy) is not None:
            self._threads.append(threading.Thread(target=self._sample_device, args=(comfy,), daemon=True))

    @staticmethod
    def on_device(comfy: Comfy) -> int | None:
        """Return the bytes taken on the GPU; None without one."""
        (device, *_) = comfy.get("/system_stats")["devices"]
        return None if device["type"] == "cpu" else device["vram_total"] - device["vram_free"]

    def _sample_device(self, comfy: Comfy) -> None:
        while not self._over.wait(0.5):
            with suppress(OSError):
                self.device = max(self.device, self.on_device(comfy) or 0)

    def now(self) -> dict[str, int]:
        lines = dict(line.split(":", 1) for line in self.status.read_text().splitlines())
        return {name: int(lines[field].split()[0]) << 10 for name, field in (("most", "VmRSS"), ("own", "RssAnon"))}

    def _sample(self) -> None:
        while not self._over.wait(0.05):
            with suppress(OSError):
                self.most = {name: max(value, self.most[name]) for name, value in self.now().items()}

    def __enter__(self) -> Watch:
        self.before = self.most = self.now()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def grown(self) -> dict[str, int]:
        grown = {name: self.most[name] - value for name, value in self.before.items()}
        on_device = {"on the GPU": self.device} if self.device else {}
        return {"peak": grown["most"], "of it not mapped": grown["own"], **on_device}


class Rehearsal:
    """ends: closed at the end of the rehearsal, and with it the server."""

    def __init__(self, options: argparse.Namespace, ends: ExitStack) -> None:
        self.options, self.base, self.ends = options, options.folder, ends
        self.server: Comfy | None = None
        self.files = files(options.weights == "fp8", options.size)
        self.notes = self.base / "rehearsal.json"
        self.found: dict[str, Any] = json.loads(self.notes.read_text()) if self.notes.exists() else {}

    def stage(self, name: str, work: Callable[[], Any], *settings: object) -> Any:
        """Return what the stage found with these settings, now or earlier."""
        key = " ".join(map(str, (name, self.options.weights, *settings)))
        if key not in self.found:
            began = time.time()
            print(f"{key} ...", flush=True)
            self.found[key] = work() | {"seconds": round(time.time() - began, 1)}
            self.notes.write_text(json.dumps(self.found, indent=1) + "\n")
        print(f"{key}: {json.dumps(self.found[key])}", flush=True)
        return self.found[key]

    @contextmanager
    def comfy(self) -> Iterator[Comfy]:
        """The server, started by the first stage that needs it, with nothing of an earlier stage in memory."""
        if self.server is None:
            nodes = self.base / "custom_nodes"
            nodes.mkdir(exist_ok=True)
            if not (link := nodes / "rehearsal_nodes.py").exists():
                link.symlink_to(Path(__file__).with_name("rehearsal_nodes.py"))
            comfy_server.STARTS_WITHIN = comfy_server.ENDS_WITHIN = self.options.patience
            width = WIDTHS[self.options.size]
            given = {"CLVR_REHEARSAL_WIDTH": json.dumps(asdict(width))} if width else {}
            if not (self.base / "lent").exists():
                lent(self.base)  # llguidance, which holds a reply to its schema
            comfy = Comfy(self.base, *self.options.flags, PYTHONPATH=str(self.base / "lent"), **given)
            self.server = self.ends.enter_context(comfy)
        else:
            self.server.forget()
            trim = {"class_type": "Rehearsal_Trim", "inputs": {"number": len(self.found)}}
            self.server.run({"1": trim, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})
        yield self.server

    def weights(self, part: str) -> Weights:
        """The plan of one file's weights on the server's device, as the forecast makes it."""
        wide = part == "DiT" and Watch.on_device(self.server) is None
        owner = "controller" if part == "VLM" else "executor"
        return file_weights(self.path(self.files[part]), part, owner, wide=wide)

    def path(self, file: File) -> Path:
        return self.base / "models" / file.folder / file.name

    def make(self, parts: Iterable[str]) -> None:
        for part in parts:
            if not self.path(self.files[part]).exists():
                write(self.files[part], self.path(self.files[part]))

    def remove(self, parts: Iterable[str]) -> None:
        for part in parts:
            self.path(self.files[part]).unlink(missing_ok=True)

    def detect(self, part: str) -> dict[str, Any]:
        """Load one file: what it became, and the peak of memory beside the file's size."""
        file = self.files[part]
        kind, widgets = file.loader
        socket = {"UNETLoader": "model", "CLIPLoader": "clip", "VAELoader": "vae"}[kind]
        prompt = {
            "1": {"class_type": kind, "inputs": widgets},
            "2": {"class_type": "Rehearsal_Look", "inputs": {socket: ["1", 0]}},
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        }
        with self.comfy() as comfy, Watch(comfy.process.pid, comfy) as watch:
            before = len(comfy.log.read_text())
            seen = said(comfy, prompt, "3")
            lines = comfy.log.read_text()[before:].splitlines()
            missing = [line for line in lines if "missing" in line or "unet unexpected" in line]
        plan = self.weights(part).nbytes
        return seen | {"parameters": file.parameters, "plan": plan, **watch.grown, "missing": missing}

    def vlm(self, node: int = 1) -> dict[str, Any]:
        kind, widgets = self.files["VLM"].loader
        seen = {"clip": [str(node), 0], "reply_limit": self.options.tokens, "prove_sight": False}
        return {
            str(node): {"class_type": kind, "inputs": widgets},
            str(node + 1): {"class_type": "CLVR_VisionModel", "inputs": seen},
        }

    def ask(self) -> dict[str, Any]:
        """Have the vision model alone decide about a picture, and reply by a schema."""
        prompt = self.vlm() | {
            "3": {"class_type": "Rehearsal_Ask", "inputs": {"vlm": ["2", 0], "side": 64}},
            "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
        }
        with self.comfy() as comfy, Watch(comfy.process.pid, comfy) as watch:
            heard = said(comfy, prompt, "4")
        held = self.weights("VLM")
        parsed = json.loads(heard["reply"])
        assert parsed.keys() == {"kind", "sure"} and len(heard["yes"]) == 2, (
            heard
        )  # None: neither Yes nor No was likely
        return heard | {"plan": held.nbytes, **watch.grown}

    def executor(self, first: int = 11) -> dict[str, Any]:
        loaders = [self.files[part].loader for part in EXECUTOR]
        nodes = {
            str(first + place): {"class_type": kind, "inputs": widgets} for place, (kind, widgets) in enumerate(loaders)
        }
        side = {"width": self.options.side, "height": self.options.side, "steps": self.options.steps}
        inputs = {name: [str(first + place), 0] for place, name in enumerate(("model", "clip", "vae"))}
        inputs |= side | {
            "recipe": "klein",
            "guidance": 0.0,
            "sampler": "euler",
            "scheduler": "recipe",
            "edit_strength": 0.0,
        }
        return nodes | {str(first + 3): {"class_type": "CLVR_Executor", "inputs": inputs}}

    def draw(self) -> dict[str, Any]:
        """Run the loop with the executor alone; a script plans and judges."""
        script = {"class_type": "Stub_Models", "inputs": {"script": json.dumps({"goals": 2, "halves": 0})}}
        return self.run(self.prompt(self.executor() | {"1": script}, ["1", 0]), EXECUTOR)

    def paint(self) -> dict[str, Any]:
        """As `draw`, with a stand-in for the text encoder: diffusion model and VAE are alone in memory."""
        width = self.files["DiT"].tensors["txt_in.weight"].shape[1]
        words = {"class_type": "Rehearsal_Words", "inputs": {"width": width, "tokens": 64}}
        script = {"class_type": "Stub_Models", "inputs": {"script": json.dumps({"goals": 2, "halves": 0})}}
        return self.run(self.prompt(self.executor() | {"1": script, "12": words}, ["1", 0]), NEEDS["paint"])

    def encode(self) -> dict[str, Any]:
        """Encode a prompt with the text encoder alone."""
        kind, widgets = self.files["text encoder"].loader
        prompt = {
            "1": {"class_type": kind, "inputs": widgets},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 0], "text": "a barn"}},
            "3": {"class_type": "Rehearsal_Shape", "inputs": {"conditioning": ["2", 0]}},
            "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
        }
        with self.comfy() as comfy, Watch(comfy.process.pid, comfy) as watch:
            found = said(comfy, prompt, "4")
        assert found["finite"], found
        plan = self.weights("text encoder").nbytes
        return found | {"plan": plan, **watch.grown}

    def loop(self) -> dict[str, Any]:
        """Run workflow 2 with all files, as it is but for the options."""
        return self.run(self.prompt(self.executor() | self.vlm(), ["2", 0]), tuple(self.files))

    def quick(self) -> dict[str, Any]:
        """Run CLVR Quick with all files, which at their real size it finds by their names; it takes the recipe's steps."""
        inputs = {"prompt": "a barn", "width": self.options.side, "height": self.options.side, "seed": 0}
        inputs |= {"rounds": self.options.rounds, "strategy": "clvr", "candidates": 0, "review": 0, "recipe": "auto"}
        for part, widget in {"DiT": "model", "VLM": "vlm", "VAE": "vae", "text encoder": "text_encoder"}.items():
            inputs[widget] = "auto" if WIDTHS[self.options.size] is None else self.files[part].name
        unproven = {"class_type": "Rehearsal_Unproven", "inputs": {"tokens": self.options.tokens}}
        with self.comfy() as comfy:
            entry = comfy.run({"1": unproven, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})
            assert entry["status"]["status_str"] == "success", error_of(entry)
        nodes = {"100": {"class_type": "CLVR_Quick", "inputs": inputs}}
        return self.run(
            nodes | {"101": {"class_type": "PreviewAny", "inputs": {"source": ["100", 2]}}}, tuple(self.files)
        )

    def run(self, prompt: dict[str, Any], parts: Iterable[str]) -> dict[str, Any]:
        with self.comfy() as comfy, Watch(comfy.process.pid, comfy) as watch:
            entry = comfy.run(prompt)
            assert entry["status"]["status_str"] == "success", error_of(entry)
            # By name: a rehearsal that was stopped goes on with its run, so the folder need not be new.
            (name,) = {name for output in entry["outputs"].values() for name in output.get("clvr_run", [])}
            folder = comfy.base / "output" / "clvr" / name
        trajectory = trajectory_from(RunFolder.open(folder).lines)
        drawn = [step.action.kind for step in trajectory.steps if step.action.draws]
        held = [self.weights(part) for part in parts]
        cost = trajectory.cost
        return {
            "steps": drawn, "evaluations": cost.evaluations, "parts": cost.seconds, "warnings": len(trajectory.warnings),
            "plan": peak(held, "resident"), "plan with headroom": peak(held, "resident", HEADROOM), **watch.grown,
        }  # fmt: skip

    def prompt(self, models: dict[str, Any], vlm: list) -> dict[str, Any]:
        """Workflow 2 with these models in place of its own."""
        graph = json.loads((ROOT / self.options.workflow).read_text())
        (number,) = (number for number, node in graph.items() if node["class_type"] == "CLVR_Generate")
        generate = graph[number]["inputs"] | {"vlm": vlm, "executor": ["14", 0], "rounds": self.options.rounds}
        nodes = {"100": {"class_type": "CLVR_Generate", "inputs": generate | {"tolerance": 0.0, "patience": 50}}}
        return models | nodes | {"101": {"class_type": "PreviewAny", "inputs": {"source": ["100", 2]}}}

    def cancel(self) -> dict[str, Any]:
        """Cancel the loop once the sampler has made a step; say how long it took until the prompt had ended."""
        steps, script = 200, {"class_type": "Stub_Models", "inputs": {"script": json.dumps({"goals": 2, "halves": 0})}}
        with self.comfy() as comfy, comfy.listening() as heard:
            models = self.executor() | {"1": script}
            models["14"]["inputs"]["steps"] = steps
            queued = comfy.queue(self.prompt(models, ["1", 0]))
            until(lambda: sampled(heard, steps), lambda: f"the sampler:\n{comfy.said}", self.options.patience, 0.1)
            began = time.time()
            comfy.interrupt()
            entry = comfy.wait(queued)
            assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
            return {"until it ended": round(time.time() - began, 1)}

    def diffusers(self) -> dict[str, Any]:
        """Run two rounds with the same three files through diffusers, planned and judged by a script."""
        from clvr_core.brief import Brief, Budget
        from clvr_core.models.config import ExecutorSettings
        from clvr_core.models.executors import load_executor, weights_of
        from clvr_core.run.run_models import RunModels
        from clvr_core.run.session import Session, drive
        from tests.fakes import FakeVlm
        from tests.run.script import drafts, edit, generate

        def said(messages: Any) -> str:
            data = messages[-1].data
            current = data.get("current")
            plan = generate() if current is None else edit("add a cat", current)
            return json.dumps(drafts(2) if data["task"] == "goals" else plan)

        judge = FakeVlm(said, lambda images, questions: [0.1] * len(questions))

        words = (
            self.options.tokenizer or Path(os.environ["COMFYUI_DIR"]) / "comfy" / "text_encoders" / "qwen25_tokenizer"
        )
        names = {"transformer": "DiT", "text_encoder": "text encoder", "vae": "VAE"}
        given = {name: str(self.path(self.files[part])) for name, part in names.items()}
        side = {"width": self.options.side, "height": self.options.side, "steps": self.options.steps}
        settings = ExecutorSettings("klein", **given, tokenizer=str(words), **side)
        with Watch(os.getpid()) as watch, tempfile.TemporaryDirectory() as out:
            executor = load_executor(settings, "cpu")
            budget = Budget(rounds=self.options.rounds, tolerance=None)
            brief = Brief("a barn", width=self.options.side, height=self.options.side, budget=budget)
            trajectory = drive(Session(brief, RunModels(judge, executor), RunFolder.create(Path(out) / "run")))
        plan = sum(each.nbytes for each in weights_of(settings))
        return {"evaluations": trajectory.cost.evaluations, "plan": plan, **watch.grown}


def sampled(heard: list[dict[str, Any]], steps: int) -> bool:
    """Whether the server has told of a step of a sampler whose bar has that many steps for each picture."""
    told = [line["said"] for line in list(heard) if line.get("said", {}).get("type") == "progress_state"]
    states = [state for each in told for state in each["data"]["nodes"].values()]
    return any(state["value"] >= 1 and state["max"] >= steps for state in states)


def said(comfy: Comfy, prompt: dict[str, Any], node: str) -> dict[str, Any]:
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return json.loads("".join(entry["outputs"][node]["text"]))


def steps_of(options: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """Return the stages with the files that each needs, `detect` once for each part. With --remove the steps that need one
    large model go model by model."""
    steps = []
    for stage in options.stages:
        steps += [("detect", (part,)) for part in options.parts] if stage == "detect" else [(stage, NEEDS[stage])]
    if options.remove:
        models = [part for part in NEEDS["loop"] if part != "VAE"]
        alone = lambda parts: [model for model in models if model in parts]  # noqa: E731
        steps.sort(key=lambda step: models.index(alone(step[1])[0]) if len(alone(step[1])) == 1 else len(models))
    return steps


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the stages, print a table, and return all that was found, by stage and options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = ("make", "detect", "ask", "encode", "paint", "draw", "loop", "quick", "cancel", "diffusers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", choices=("fp8", "bf16"), default="fp8")
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages)
    parser.add_argument("--parts", nargs="+", default=["VAE", "DiT", "text encoder", "VLM"], help="of detect")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1536, help="of a reply, at most")
    parser.add_argument("--patience", type=float, default=7200.0, help="seconds that a prompt may take")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="for ComfyUI, after all other options")
    parser.add_argument("--workflow", default="workflows/api/2-klein-4-step-loop.json")
    parser.add_argument("--tokenizer", type=Path, help="folder of Qwen3's, for diffusers; default: ComfyUI's own")
    parser.add_argument(
        "--remove", action="store_true", help="delete each file after the last of the stages that needs it"
    )
    parser.add_argument("--size", choices=WIDTHS, default="real")
    options = parser.parse_args(arguments)
    if options.tokens < 64:
        parser.error(f"--tokens is {options.tokens}; the node Vision Model takes 64 or more")
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = (options.side, options.steps, options.rounds, options.tokens)
    with ExitStack() as ends:
        rehearsal = Rehearsal(options, ends)
        steps = steps_of(options)
        for number, (stage, parts) in enumerate(steps):
            rehearsal.make(parts)
            if stage == "detect":
                rehearsal.stage(f"detect {parts[0]}", lambda part=parts[0]: rehearsal.detect(part))
            elif stage != "make":
                rehearsal.stage(stage, getattr(rehearsal, stage), *settings)
            if options.remove:
                rehearsal.remove(set(parts).difference(*(later for _, later in steps[number + 1 :])))
    print(table(rehearsal.found))
    return rehearsal.found


def table(found: dict[str, Any]) -> str:
    """Measured is for `detect` the weights as loaded, which stay in their mapped file until they are used; else the peak
    without mapped files.
    """
    lines = ["| stage | plan, GB | measured, GB | within 20 % | seconds |", "|---|---:|---:|---|---:|"]
    for name, each in found.items():
        if "plan" in each:
            plan, measured = each["plan"], each.get("bytes", each.get("on the GPU", each.get("of it not mapped", 0)))
            close = "yes" if abs(measured - plan) <= WITHIN * plan else "no"
            lines.append(f"| {name} | {plan / 1e9:.2f} | {measured / 1e9:.2f} | {close} | {each['seconds']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
