"""Many briefs through a running ComfyUI: its queue, its models, one prompt a brief, and the runs fetched into folders."""

from __future__ import annotations

import copy
import json
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .batch import SUMMARY, Job, OnEvent, Result, batch_summary, result_of
from .brief import Brief, Budget
from .errors import BadInput
from .http_json import Client, Limits, ServerFailure, address, multipart
from .http_json.wire import Broken, TimedOut, TooLarge, exchange
from .reading import json_of
from .run.reading import read_trajectory
from .run.references import Given, with_references
from .run.run_folder import RunFolder, trajectory_from
from .run.store import digest_of
from .storage.atomic import write_bytes, writing
from .storage.lock import locked
from .storage.png_encode import encode
from .text import one_line
from .trajectory import Trajectory

NODE = "CLVR_Generate"
QUICK = "CLVR_Quick"
FEW = ("prompt", "strategy", "seed", "rounds", "candidates", "review")
"""Inputs of a brief that QUICK has. NODE has all of `prompt_for`."""
ASKED = "asked.json"
"""File in the folder of a fetched run: the widgets of Generate in a Loop that it was asked for with."""
EARLIER = {"guided": False, "rollback": True, "conversation": False}
"""Inputs that an earlier note may lack, with what they then were."""
LOADED = "clvr-reference-"
"""What the ids of the nodes begin with that load references."""
LIMITS = Limits(timeout=60.0, wait=600.0)
MAX_PICTURE, MAX_JOURNAL = 256 << 20, 80 << 20
"""Bytes of an answer."""
PAUSE = 1.0
"""Seconds between two looks at the queue."""


def read_workflow(path: Path) -> dict[str, Any]:
    """Read a workflow in ComfyUI's API format. Raises BadInput unless it has one Generate in a Loop or one CLVR Quick."""
    try:
        graph = json_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    nodes = list(graph.values()) if isinstance(graph, dict) else []
    if not nodes or not all(isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in nodes):
        raise BadInput(f"{path} is not a workflow in API format; save one by Workflow, Export (API) in ComfyUI")
    count = sum(node.get("class_type") in (NODE, QUICK) for node in nodes)
    if count != 1:
        raise BadInput(f"{path} has {count} nodes Generate in a Loop or CLVR Quick; give a workflow with one")
    return graph


def prompt_for(
    workflow: dict[str, Any], brief: Brief, depth: int | None = None, references: Sequence[Given] = ()
) -> dict[str, Any]:
    """Return the workflow with this brief in the node that makes the run; the models, the size and all other nodes stay.

    depth: for the input of that name; None leaves the workflow's own.
    references: pictures of the brief's references, which nodes of their own load; none leaves the workflow's own.

    Raises BadInput for what that node has no input for, and for references of several sizes, which no batch holds.
    """
    usual, budget = Brief("x"), brief.budget
    foreign = {
        "goals": (brief.goals, ()),
        "conditioning": (brief.conditioning, usual.conditioning),
        "estimate": (brief.estimate, usual.estimate),
        **{name: (getattr(budget, name), getattr(Budget(), name)) for name in ("images", "seconds", "vlm_tokens")},
    }
    if given := [name for name, (value, default) in foreign.items() if value != default]:
        raise BadInput(
            f"{given[0]} cannot be given to ComfyUI, where Generate in a Loop has no such input; leave it out"
        )
    graph = copy.deepcopy(workflow)
    node = _node(graph)
    given = {
        "prompt": brief.prompt,
        "strategy": brief.strategy,
        "seed": brief.seed,
        "rounds": budget.rounds,
        "patience": budget.patience,
        "candidates": brief.candidates or 0,
        "evaluations": budget.evaluations or 0,
        "judging": brief.judging,
        "evidence": brief.evidence,
        "fused": brief.fused,
        "guided": brief.guided,
        "rollback": brief.rollback,
        "conversation": brief.conversation,
        "met": budget.met,
        "unmet": budget.unmet,
        "tolerance": budget.tolerance or 0.0,
        "review": 0,
    } | ({} if depth is None else {"depth": depth})
    if node["class_type"] == QUICK:
        own = {"evaluations": 0, "judging": "each", "evidence": False, "fused": False, "tolerance": 1.0, "depth": None}
        own |= {"guided": True, "rollback": True, "conversation": False, "met": Budget().met, "unmet": Budget().unmet}
        if references:
            raise BadInput(
                "references cannot be given to CLVR Quick, which has no such input; use a workflow with Generate in a Loop"
            )
        if lost := [name for name, value in own.items() if given.get(name, value) != value]:
            raise BadInput(
                f"{lost[0]} cannot be given to CLVR Quick, which has no such input; use a workflow with Generate in a Loop"
            )
        given = {name: given[name] for name in FEW}
    node["inputs"] |= given
    if references:
        node["inputs"] |= {
            "references": [_load_references(graph, references), 0],
            "reference_names": ", ".join(f"{each.name}: {each.keeps}" for each in references),
        }
    return graph


def _load_references(graph: dict[str, Any], references: Sequence[Given]) -> str:
    """Add nodes that load the uploaded references as one batch, and return the id of the last one."""
    shapes = {each.picture.shape[:2] for each in references}
    if len(shapes) > 1:
        sizes = ", ".join(f"{each.name} {each.picture.shape[1]} x {each.picture.shape[0]}" for each in references)
        raise BadInput(
            f"the references have several sizes ({sizes}), and ComfyUI takes them as one batch of one size; scale them alike"
        )
    batch = ""
    for number, each in enumerate(references, 1):
        loader = f"{LOADED}{number}"
        graph[loader] = {"class_type": "LoadImage", "inputs": {"image": f"{_folder_there(each)}/1.png"}}
        if batch:
            graph[f"{loader}-batch"] = {
                "class_type": "ImageBatch",
                "inputs": {"image1": [batch, 0], "image2": [loader, 0]},
            }
        batch = f"{loader}-batch" if batch else loader
    return batch


def _folder_there(reference: Given) -> str:
    """Return the folder in ComfyUI's input folder for this picture: another picture has another one."""
    return f"clvr/{digest_of(reference.picture)[:16]}"


def _node(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the node that makes the run."""
    (node,) = (node for node in graph.values() if node["class_type"] in (NODE, QUICK))
    return node


class ComfyQueue:
    """The queue of a ComfyUI. Its methods raise ServerFailure where no usable answer comes."""

    def __init__(self, url: str) -> None:
        """Raises BadInput if there is no ComfyUI with this pack at the address."""
        self.url, self.client = address(url), Client(url, limits=LIMITS)
        self.sender = uuid.uuid4().hex
        try:
            known = self.client.ask(f"/object_info/{NODE}")
        except ServerFailure as error:
            raise BadInput(f"no ComfyUI answers at {self.url}: {error}; start it, or mend --comfyui") from error
        if NODE not in known:
            raise BadInput(f"the ComfyUI at {self.url} has no node {NODE}; install this pack there and restart it")

    def put(self, graph: dict[str, Any]) -> str:
        """Queue a prompt and return its id. Raises BadInput if ComfyUI refuses it."""
        status, content = self._exchange("/prompt", {"prompt": graph, "client_id": self.sender})
        try:
            answer = json_of(content)
            if status == 200:
                return str(answer["prompt_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise ServerFailure(f"{self.url} answered {status} without a prompt's id") from error
        raise BadInput(_refusal(answer))

    def upload(self, reference: Given) -> None:
        """Put the picture into ComfyUI's input folder, where `prompt_for` loads it. Raises ServerFailure if it is not
        taken."""
        fields = {"type": "input", "subfolder": _folder_there(reference), "overwrite": "true"}
        kind, data = multipart(fields, [("image", encode(reference.picture))])
        status, content = self._exchange("/upload/image", data=data, kind=kind)
        if status != 200:
            said = one_line(content.decode("utf-8", "replace"), 200)
            raise ServerFailure(f"{self.url} does not take the reference {reference.name}: {status} {said}".rstrip())

    def look(self, prompt: str) -> dict[str, Any] | None:
        """Return the history of a prompt that has ended; None while it waits or works.

        Raises ServerFailure if ComfyUI does not know it, as after a restart.
        """
        for again in (True, False):
            entry = self.client.ask(f"/history/{prompt}", max_bytes=MAX_JOURNAL).get(prompt)
            if entry is not None:
                return entry
            queue = self.client.ask("/queue", max_bytes=MAX_JOURNAL)
            if any(each[1] == prompt for kind in ("queue_running", "queue_pending") for each in queue.get(kind, ())):
                return None
            if not again:  # it may have ended between the two questions
                break
        raise ServerFailure(f"{self.url} does not know the prompt any more; it was restarted or its queue was cleared")

    def drop(self, prompts: Sequence[str]) -> None:
        """Take prompts out of the queue, and cancel the one that is at work."""
        self._exchange("/queue", {"delete": list(prompts)})
        for prompt in prompts:
            self._exchange("/interrupt", {"prompt_id": prompt})

    def fetch(self, run: str, path: Path, notes: Mapping[str, str], references: Sequence[Given] = ()) -> Trajectory:
        """Copy a run into a new folder, whole or not at all, with these texts beside it, by the names of their files.

        references: those that were uploaded for it, which come into the folder too.

        Raises BadInput for a run that is damaged, has not ended, or had other references.
        """
        found = self.client.ask(f"/clvr/lines?run={quote(run)}", max_bytes=MAX_JOURNAL)
        part = path.with_name(f".{path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            lines = [json_of(line) for line in found["lines"]]
            trajectory = trajectory_from(lines)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"the run {run} of {self.url} cannot be read: {error}") from error
        if trajectory.outcome is None:
            raise BadInput(f"the run {run} of {self.url} has not ended")
        folder = RunFolder.create(part)
        for step in trajectory.steps:
            for candidate in step.candidates:
                status, data = self._exchange(f"/clvr/canvas?run={quote(run)}&canvas={candidate.canvas}")
                if status != 200:
                    raise BadInput(f"canvas {candidate.canvas} of the run {run} is not on {self.url}")
                write_bytes(folder.canvas_path(candidate.canvas), data)
                folder.picture(candidate.canvas, candidate.sha256)  # raises BadInput for another picture
        if references:
            brief, kept = with_references(trajectory.brief, references)
            if brief.references != trajectory.brief.references:
                raise BadInput(f"the run {run} of {self.url} had other references than it was given")
            for name, picture in kept.items():
                folder.save_reference(name, picture)
        for line in lines:
            folder.append(line)
        folder.sync()
        folder.finish(trajectory, None if trajectory.best is None else folder.picture(trajectory.best))
        folder.close()
        for name, text in notes.items():
            write_bytes(part / name, text.encode())
        part.rename(path)
        return trajectory

    def _exchange(
        self, path: str, body: dict[str, Any] | None = None, data: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send a GET, or a POST of JSON or of data of this kind; return status and content, whatever they are."""
        data = data if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind, "Connection": "close"}
        try:
            heard = exchange(f"{self.url}{path}", data, headers, LIMITS.timeout, MAX_PICTURE, self.client.check)
        except (Broken, TimedOut, TooLarge) as error:
            raise ServerFailure(f"{self.url} gave no whole answer {error}".rstrip(), away=True) from error
        return heard.status, heard.content


def paint_there(
    jobs: Sequence[Job],
    queue: ComfyQueue,
    workflow: dict[str, Any],
    out: Path,
    concurrency: int,
    on_event: OnEvent = lambda job, event: None,
    depth: int | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> list[Result]:
    """Paint all jobs by ComfyUI, and return their results in the order of the jobs; also written to SUMMARY.

    out: folder for the folders of the runs; one that holds its whole run is not asked for again.
    concurrency: prompts in the queue at the same time, at least 1.
    depth: as in `prompt_for`.

    A brief that ComfyUI refuses or that fails gives a Result with state `failed`. Where ComfyUI stays away the runs end
    as `stopped`. An interruption takes the prompts out of the queue. Raises BadInput for a folder of another brief.
    """
    if concurrency < 1:
        raise BadInput(f"--concurrency is {concurrency}; it must be at least 1")
    graphs = {job.id: _graph(workflow, job, depth) for job in jobs}
    results: dict[str, Result] = {}
    with locked(out):
        waiting, under_way = [], {}
        for job in jobs:
            done = _there(job, graphs[job.id], out)
            if done is None:
                waiting.append(job)
            else:
                on_event(job.id, None)
                results[job.id] = done
                on_event(job.id, done)
        try:
            while waiting or under_way:
                while waiting and len(under_way) < concurrency:
                    job = waiting.pop(0)
                    on_event(job.id, None)
                    try:
                        for reference in _given(job):
                            queue.upload(reference)
                        under_way[job.id] = job, queue.put(graphs[job.id])
                    except (BadInput, ServerFailure) as error:
                        results[job.id] = _failed(job, error)
                        on_event(job.id, results[job.id])
                ended = {id: _ended(job, prompt, graphs[id], queue, out) for id, (job, prompt) in under_way.items()}
                for id, result in ended.items():
                    if result is not None:
                        del under_way[id]
                        results[id] = result
                        on_event(id, result)
                if under_way and not any(ended.values()):
                    sleep(PAUSE)
        except BaseException:
            if under_way:
                queue.drop([prompt for _, prompt in under_way.values()])
            raise
        ordered = [results[job.id] for job in jobs]
        with writing(out):
            write_bytes(out / SUMMARY, (json.dumps(batch_summary(ordered), indent=1) + "\n").encode())
    return ordered


def _asked(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the widgets of the node that makes the run, and the files of the references it was given."""
    widgets = {name: value for name, value in _node(graph)["inputs"].items() if not isinstance(value, list)}
    loaders = (node for id, node in graph.items() if id.startswith(LOADED) and node["class_type"] == "LoadImage")
    files = [node["inputs"]["image"] for node in loaders]
    return widgets | ({"references": files} if files else {})


def _graph(workflow: dict[str, Any], job: Job, depth: int | None) -> dict[str, Any]:
    try:
        return prompt_for(workflow, job.brief, depth, _given(job))
    except BadInput as error:
        raise BadInput(f"{job.id}: {error}") from error


def _given(job: Job) -> list[Given]:
    return [each.read() for each in job.references]


def _there(job: Job, graph: dict[str, Any], out: Path) -> Result | None:
    """Return the result of a run that was fetched earlier; None if there is none, or if it may now go on for longer.

    Raises BadInput for a run of another brief.
    """
    note = out / job.id / ASKED
    if not note.exists():
        if (out / job.id).exists():
            raise BadInput(f"{out / job.id} was not fetched from a ComfyUI; choose another --out")
        return None
    now = _asked(graph)
    before = {name: EARLIER[name] for name in EARLIER.keys() & now.keys()} | json_of(note.read_text("utf-8"))
    if before.get("guided") is False:  # goes on as it began
        _node(graph)["inputs"]["guided"] = now["guided"] = False
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    if not changed:
        return result_of(job, read_trajectory(out / job.id), out)
    if changed <= {"rounds", "patience", "evaluations"}:
        return None
    raise BadInput(f"{out / job.id} is a run of another brief; choose another --out, or give this one another id")


def _ended(job: Job, prompt: str, graph: dict[str, Any], queue: ComfyQueue, out: Path) -> Result | None:
    """Return the result of a prompt that has ended, its run fetched; None if it has not."""
    try:
        entry = queue.look(prompt)
        if entry is None:
            return None
        if entry.get("status", {}).get("status_str") != "success":
            return Result(job.id, "failed", _reason(entry))
        runs = [run for each in entry["outputs"].values() for run in each.get("clvr_run", ())]
        if not runs:
            raise BadInput("the prompt named no run; link the image of Generate in a Loop to a node that saves it")
        shutil.rmtree(out / job.id, ignore_errors=True)  # as far as it was under a smaller budget
        notes = {ASKED: json.dumps(_asked(graph))}
        return result_of(job, queue.fetch(str(runs[0]), out / job.id, notes, _given(job)), out)
    except (BadInput, ServerFailure) as error:
        return _failed(job, error)


def _failed(job: Job, error: Exception) -> Result:
    return Result(job.id, "stopped" if isinstance(error, ServerFailure) else "failed", str(error))


def _reason(entry: dict[str, Any]) -> str:
    messages = entry.get("status", {}).get("messages", ())
    said = [body.get("exception_message", "") for kind, body in messages if kind == "execution_error"]
    cancelled = any(kind == "execution_interrupted" for kind, _ in messages)
    return one_line("".join(said), 400) or ("it was cancelled in ComfyUI" if cancelled else "ComfyUI does not say why")


def _refusal(answer: Any) -> str:
    """Return what ComfyUI says of a prompt that it did not take: of each node its first error, else the general one."""
    try:
        errors = [error for node in answer["node_errors"].values() for error in node["errors"][:1]]
        said = "; ".join(f"{error['message']}: {error['details']}" for error in errors) or answer["error"]["message"]
    except (KeyError, TypeError, AttributeError):
        said = json.dumps(answer)
    return f"ComfyUI refuses the workflow: {one_line(said, 400)}"
