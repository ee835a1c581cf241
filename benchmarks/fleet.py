"""How much of the time of fake servers many runs at once use, and what the framework itself costs.

The servers run in a process of their own and take as long for an answer as real ones: by default 1 s for the vision-language
model and 0.6 s for a picture, for as many requests at once as come. Every brief is done in two rounds.

efficiency  the time of one brief alone with servers that are never waited for, times briefs, over concurrency and the time taken.
            The time of one brief is the union of what its requests take at the servers.
lost, twice briefs without an end, and pictures that were drawn more than once.

python benchmarks/fleet.py [--task batch] [--engine local|ray] [--workers N] [--briefs 128]
    [--concurrency 64] [--vlm 1.0] [--draw 0.6] [--size 256] [--json FILE]
python benchmarks/fleet.py --task synthesize    the judge asked once at a time, and --concurrency times
python benchmarks/fleet.py --task memory --briefs 5000 --size 32    models that answer at once: what of memory is left in use
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GREY = 60
"""Grey value of a first canvas. Each edit adds as much, and a goal holds from its own number of times as much."""
GOALS = 2
BAR = 0.9


def serve(vlm: float, draw: float) -> None:
    """Answer as both servers do; print the port."""
    lock, spans, drawn = threading.Lock(), [], Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def say(self, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True

        def do_GET(self) -> None:
            if self.path != "/told":
                return self.say({"data": [{"id": "fake"}]})
            with lock:
                told = {"busy": _union(spans), "twice": sum(count - 1 for count in drawn.values())}
                spans.clear(), drawn.clear()
            return self.say(told)

        def do_POST(self) -> None:
            begun, data = time.monotonic(), self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/chat/completions"):
                answer, seconds = _said(json.loads(data)), vlm
            else:
                with lock:
                    drawn[_seed(data)] += 1
                answer, seconds = _picture(data), draw
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
            with lock:
                spans.append((begun, time.monotonic()))
            self.say(answer)

    class Server(ThreadingHTTPServer):
        request_queue_size, daemon_threads = 1024, True

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _seed(data: bytes) -> int:
    found = re.search(rb'"seed": (\d+)|name="seed".*?\r\n\r\n(\d+)', data, re.DOTALL)
    assert found, "each request has a seed"
    return int(found[1] or found[2])


def _union(spans: list[tuple[float, float]]) -> float:
    """Return the seconds in which at least one request was under way."""
    total, until = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return total


def _said(body: dict[str, Any]) -> dict[str, Any]:
    parts = [
        part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    texts = [message["content"] for message in body["messages"] if isinstance(message["content"], str)]
    words = "\n".join([*texts, *(part["text"] for part in parts if part["type"] == "text")])
    pictures = [part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"]
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes"}}
    if body.get("logprobs"):
        yes = _probability(words, pictures)
        top = [{"token": "Yes", "logprob": np.log(yes)}, {"token": "No", "logprob": np.log(1 - yes)}]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    else:
        names = body["response_format"]["json_schema"]["schema"]["properties"]
        choice["message"]["content"] = json.dumps(_reply(names, bool(pictures)))
    return {"choices": [choice], "usage": {"total_tokens": 100}}


def _grey(picture: str) -> int:
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))[0, 0])


def _probability(words: str, pictures: list[str]) -> float:
    return _certainty(words, list(map(_grey, pictures)))


def _certainty(words: str, greys: list[int]) -> float:
    """Return the probability of a yes about pictures of these grey values."""
    if number := next((n for n in range(1, GOALS + 1) if f"thing number {n}" in words and len(greys) == 1), 0):
        return 0.95 if greys[0] >= GREY * number else 0.05
    if "fits the brief better" in words and len(greys) == 2:
        return 0.95 if greys[0] > greys[1] else 0.05
    return 0.95


def _reply(names: dict[str, Any], seen: bool) -> dict[str, Any]:
    if "kind" not in names:
        if "goals" in names:
            usual = {"kind": "local", "feasibility": 0.9, "conflicts_with": [], "area": None, "need": "must"}
            each = names["goals"]["items"]["properties"]
            goals = [
                {"text": f"thing number {n}", "check": f"Is there thing number {n}?", **usual}
                for n in range(1, GOALS + 1)
            ]
            return {"goals": [{key: value for key, value in goal.items() if key in each} for goal in goals]}
        return {"references": [1] if seen else [], "edit_prompt": "add one" if seen else "", "scene_prompt": "things"}
    kinds, canvases = names["kind"]["enum"], names["references"]["items"].get("enum", [])
    kind = "EDIT" if canvases and "EDIT" in kinds else kinds[0]
    return {
        "summary": "One is missing.",
        "kind": kind,
        "goals": names["goals"]["items"].get("enum", []),
        "references": canvases[-1:] if kind == "EDIT" else [],
        "region": None,
        "edit_prompt": "add one" if kind == "EDIT" else "",
        "scene_prompt": "" if kind == "EDIT" else "things",
    }


def _picture(data: bytes) -> dict[str, Any]:
    if data[:1] == b"{":
        width, height = map(int, json.loads(data)["size"].split("x"))
        shown = np.full((height, width, 3), GREY, np.uint8)
    else:
        start = data.index(b"\x89PNG")
        with Image.open(io.BytesIO(data[start:])) as image:
            shown = np.minimum(np.asarray(image.convert("RGB")).astype(int) + GREY, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG", compress_level=1)
    return {"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}


class Servers:
    def __init__(self, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--serve", "--vlm", str(options.vlm), "--draw", str(options.draw)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"
        self.size = options.size

    def models(self, parallel: int) -> Any:
        return self.source(parallel).load()

    def source(self, parallel: int) -> Served:
        return Served(self.url, self.size, parallel)

    def told(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/told") as answer:
            return json.load(answer)


@dataclass(frozen=True)
class Served:
    """A `Source` of models behind the servers."""

    url: str
    size: int
    parallel: int

    def load(self) -> Any:
        from clvr_core.executor.remote import ImageServer, RemoteExecutor
        from clvr_core.models.registry import Models
        from clvr_core.vlm.server import Endpoint, ServerVlm

        vlm = ServerVlm(Endpoint(self.url, "fake", parallel=self.parallel))
        image = ImageServer(self.url, "fake", width=self.size, height=self.size, parallel=self.parallel)
        return Models(vlm, RemoteExecutor(image), self.size, self.size)


def batch(options: argparse.Namespace, servers: Servers, place: Path) -> dict[str, Any]:
    from clvr_core.batch import Job, Painting, Result, run_batch
    from clvr_core.brief import Brief, Budget
    from clvr_core.fleet.output import Disk
    from clvr_core.fleet.processes import Processes

    def jobs(name: str, count: int) -> list[Job]:
        usual = {"budget": Budget(rounds=4), "width": options.size, "height": options.size, "final_ab": False}
        return [Job(f"{name}-{n}", Brief(f"two things, {name} {n}", seed=n, **usual)) for n in range(count)]

    # The first run of a process imports and warms up; only its requests count here.
    run_batch(jobs("first", 1), servers.models(4), place / "first", 1)
    servers.told()
    run_batch(jobs("alone", 1), servers.models(4), place / "alone", 1)
    alone = servers.told()["busy"]
    part = max(options.concurrency, options.briefs // 4)
    engine: Any = None
    if options.engine == "ray":
        from clvr_core.fleet.on_ray import Ray

        engine = Ray(options.address, options.workers, options.concurrency)
    elif options.workers:
        engine = Processes(options.workers, options.concurrency)
    memory: list[int] = []
    ended: Counter[str] = Counter()
    with ExitStack() as stack:
        crew = stack.enter_context(engine.crew(Painting(servers.source(4), Disk(place / "many")))) if engine else None
        if crew:
            list(crew.run([None]))  # the models are loaded, as they are below
        before, begun = _cpu(), time.monotonic()
        memory.append(_memory())
        for start in range(0, options.briefs, part):
            some = jobs("many", options.briefs)[start : start + part]
            if crew:
                results = [result for _, result in crew.run(some)]
            else:
                results = run_batch(some, servers.models(4), place / "many", options.concurrency)
            ended.update(result.state for result in results if isinstance(result, Result))
            memory.append(_memory())
        wall = time.monotonic() - begun
    after = _cpu()  # of processes that have ended too
    waves = -(-options.briefs // options.concurrency)
    return {
        "task": "batch",
        "seconds_of_a_brief": round(alone, 3),
        "seconds": round(wall, 2),
        "efficiency": round(alone * waves / wall, 3),
        "cpu_seconds_a_brief": round((after - before) / options.briefs, 4),
        "met": ended["met"],
        "lost": options.briefs - ended["met"] - ended["unmet"],
        "twice": servers.told()["twice"],
        "megabytes": memory,
    }


def synthesize(options: argparse.Namespace, servers: Servers, place: Path) -> dict[str, Any]:
    from clvr_core.synthesis.engine import Settings, synthesize

    prompts = [f"two things, brief {n}" for n in range(options.briefs)]
    seconds, kept = {}, {}
    for parallel in (options.concurrency, 1):
        models = servers.models(parallel)
        begun = time.monotonic()
        counts = synthesize(
            place / str(parallel), prompts, models, models.vlm, Settings(together=options.briefs), lambda line: None
        )
        seconds[parallel], kept[parallel] = round(time.monotonic() - begun, 2), counts.get("kept", 0)
    return {
        "task": "synthesize",
        "seconds": seconds[options.concurrency],
        "seconds_one_at_a_time": seconds[1],
        "times_as_fast": round(seconds[1] / seconds[options.concurrency], 2),
        "kept": kept[options.concurrency],
        "kept_one_at_a_time": kept[1],
    }


def _cpu() -> float:
    """Return the processor seconds of this process and of those that it has waited for, less the servers'."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def memory(options: argparse.Namespace, servers: Servers, place: Path) -> dict[str, Any]:
    """Many briefs in this process by models that answer at once: does its memory stay as it is?"""
    from clvr_core.batch import Job, Result, run_batch
    from clvr_core.brief import Brief, Budget
    from clvr_core.models.registry import Models
    from clvr_core.protocols import Decision, Drawing, Reply

    class Sees:
        name, parallel = "fake", options.concurrency

        def chat(self, messages: Any, schema: Any) -> Any:
            return Reply(json.dumps(_reply(schema["properties"], any(message.images for message in messages))), 100)

        def decide(self, images: Any, questions: Any) -> Any:
            greys = [int(image[0, 0, 0]) for image in images]
            return [Decision(_certainty(question.text, greys), tokens=100) for question in questions]

    class Draws:
        name, parallel = "fake", options.concurrency

        def nfe(self, request: Any) -> int:
            return 4

        def draw(self, requests: Any) -> Any:
            greys = [int(each.references[0][0, 0, 0]) if each.references else 0 for each in requests]
            side = options.size
            return [Drawing(np.full((side, side, 3), min(255, grey + GREY), np.uint8), 4) for grey in greys]

    usual = {"budget": Budget(rounds=4), "width": options.size, "height": options.size, "final_ab": False}
    brief_files = [Job(f"many-{n}", Brief(f"two things, many {n}", seed=n, **usual)) for n in range(options.briefs)]
    megabytes: list[int] = []
    ended: Counter[str] = Counter()

    def on_event(job: str, event: Any) -> None:
        if isinstance(event, Result):
            ended[event.state] += 1
            if sum(ended.values()) % max(1, options.briefs // 20) == 0:
                megabytes.append(_memory())

    before, begun = _cpu(), time.monotonic()
    run_batch(brief_files, Models(Sees(), Draws(), options.size, options.size), place, options.concurrency, on_event)
    tenth = max(1, len(megabytes) // 10)
    return {
        "task": "memory",
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds_a_brief": round((_cpu() - before) / options.briefs, 4),
        "met": ended["met"],
        "lost": options.briefs - ended["met"] - ended["unmet"],
        "megabytes": megabytes,
        "growth_in_bytes_a_brief": round((megabytes[-1] - megabytes[tenth]) * 2**20 / options.briefs),
    }


def _memory() -> int:
    """Return the resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("batch", "synthesize", "memory"), default="batch")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--workers", type=int, help="processes, or actors (default: this process alone)")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--briefs", type=int, default=128)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--vlm", type=float, default=1.0, help="seconds of an answer")
    parser.add_argument("--draw", type=float, default=0.6, help="seconds of a picture")
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.vlm, options.draw)
    servers = Servers(options)
    try:
        with tempfile.TemporaryDirectory() as folder:
            task = {"batch": batch, "synthesize": synthesize, "memory": memory}[options.task]
            found = vars(options) | task(options, servers, Path(folder))
    finally:
        servers.process.kill()
        servers.process.wait()
    found = {name: value for name, value in found.items() if name not in ("serve", "json")}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(found.get("lost") or found.get("twice")))


if __name__ == "__main__":
    sys.exit(main())
