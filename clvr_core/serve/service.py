"""Answers requests for pictures, in the form of OpenAI's images API, by runs of the loop.

Every run has a folder, which is the truth about it: any replica that sees the folder answers for it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from ..brief import Brief
from ..checklist import Tally
from ..errors import Away, BadInput, CannotWrite, JudgeFailure
from ..fleet.engine import Stopped
from ..fleet.sharing import shared
from ..models.registry import Models
from ..reading import json_of
from ..records import to_json
from ..run.reading import read_trajectory
from ..run.run_folder import BEST, REPORT, RunFolder
from ..run.session import Session
from ..trajectory import Trajectory
from .metrics import Metrics

ID = re.compile(r"[0-9]{10}-[0-9a-f]{16}")
KNOWN = (
    "prompt",
    "n",
    "size",
    "seed",
    "response_format",
    "stream",
    "guided",
    "model",
    "user",
    "quality",
    "strategy",
    "rounds",
    "candidates",
)
"""Fields of a request. `model`, `user` and `quality` are taken and have no effect."""
BODY = 64 * 1024
"""Bytes of a request at most."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    concurrency: runs at the same time.
    queue: runs that wait for one of these places; further requests are refused with 429.
    pictures: of one request.
    rounds: of a run.
    side: pixels of the longer side of a canvas.
    """

    concurrency: int = 4
    queue: int = 16
    pictures: int = 4
    rounds: int = 12
    side: int = 2048


class Refused(Exception):
    """A request that is not carried out. status: of the answer. retry: seconds after which to come again, 0 for none."""

    def __init__(self, status: int, message: str, param: str | None = None, retry: int = 0) -> None:
        super().__init__(message)
        self.status, self.param, self.retry = status, param, retry

    def response(self) -> Response:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": None}
        headers = {"Retry-After": str(self.retry)} if self.retry else {}
        return JSONResponse({"error": error}, self.status, headers)


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for."""

    briefs: tuple[Brief, ...]
    stream: bool
    by_url: bool


class Service:
    """
    models: of all runs.
    out: folder for the folders of the runs.
    usual: the brief whose fields a request may leave out.
    keys: of which a request must bring one; none lets everybody in.
    """

    def __init__(self, models: Models, out: Path, usual: Brief, limits: Limits, keys: Sequence[str] = ()) -> None:
        self.out, self.usual, self.limits, self.keys = out, usual, limits, tuple(keys)
        self.metrics = Metrics()
        self._check = models.check
        self._stop, self._stack = threading.Event(), ExitStack()
        self.models = self._stack.enter_context(shared(models, self._stop))
        self._pool = ThreadPoolExecutor(limits.concurrency, "run")
        self._places = asyncio.Semaphore(limits.concurrency)
        self._waiting = 0

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def close(self) -> None:
        """Have all runs leave their work; each can be gone on with by `clvr resume`."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    async def answer(self, request: Request) -> Response:
        try:
            response = await self._routed(request)
        except Refused as refused:
            response = refused.response()
        except (HTTPException, ClientDisconnect):
            response = Refused(400, "the request ended before its body").response()
        self.metrics.requests.labels(str(response.status_code)).inc()
        return response

    async def _routed(self, request: Request) -> Response:
        path, get = request.url.path.rstrip("/"), request.method in ("GET", "HEAD")
        if path == "/health" and get:
            return JSONResponse(
                {"status": "stopping" if self._stop.is_set() else "ok"}, 503 if self._stop.is_set() else 200
            )
        self._require_key(request)
        if path == "/metrics" and get:
            return Response(self.metrics.text(), media_type=self.metrics.MEDIA)
        if path == "/v1/models" and get:
            names = self.models.names
            return JSONResponse(
                {"object": "list", "data": [{"id": "clvr", "object": "model", "owned_by": "clvr", "parts": names}]}
            )
        if found := re.fullmatch(r"/v1/runs/([^/]+)(?:/(best\.png|report\.html))?", path):
            if get:
                return self._run(found[1], found[2] or "")
        elif path == "/v1/images/generations" and request.method == "POST":
            return await self._generations(request)
        elif path not in ("/v1/images/generations", "/v1/models", "/metrics", "/health"):
            raise Refused(404, f"there is nothing at {path[:80] or '/'}; pictures are made at /v1/images/generations")
        raise Refused(405, f"{request.method} is not for {path[:80]}")

    def _require_key(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if self.keys and not any(hmac.compare_digest(given, key.encode()) for key in self.keys):
            raise Refused(401, "the key is missing or wrong; send it as Authorization: Bearer KEY")

    def _run(self, name: str, file: str) -> Response:
        folder = self.out / name
        if not ID.fullmatch(name) or not folder.is_dir():
            raise Refused(404, f"there is no run {name[:40]}")
        if not file:
            try:
                return JSONResponse(to_json(read_trajectory(folder)))
            except BadInput as error:
                raise Refused(404, f"the run {name} has not begun") from error
        if not (folder / file).is_file():
            raise Refused(404, f"the run {name} has no {file} yet")
        return FileResponse(folder / file)

    async def _generations(self, request: Request) -> Response:
        order = self._order(await _body(request))
        if self._waiting + len(order.briefs) > self.limits.queue + self.limits.concurrency:
            raise Refused(429, f"{self._waiting} pictures are under way or waiting; come again later", retry=30)
        base = str(request.base_url).rstrip("/")
        if order.stream:
            return StreamingResponse(self._events(order.briefs[0], base), media_type="text/event-stream")
        runs = [asyncio.ensure_future(self._picture(brief, _ignore)) for brief in order.briefs]
        try:
            while not all(run.done() for run in runs):
                await asyncio.wait(runs, timeout=1)
                if await request.is_disconnected():
                    raise Refused(499, "the client is gone")
                if failed := next((run for run in runs if run.done() and run.exception()), None):
                    failed.result()
        finally:
            for run in runs:
                run.cancel()
        done = [run.result() for run in runs]
        data = [{"url": each.url(base, BEST)} if order.by_url else {"b64_json": each.picture()} for each in done]
        return JSONResponse({"created": int(time.time()), "data": data, "clvr": [each.told(base) for each in done]})

    def _order(self, asked: dict[str, Any]) -> Order:
        """Read a request. Raises Refused for a field that is unknown or out of range."""
        if unknown := sorted(asked.keys() - set(KNOWN)):
            raise Refused(400, f"{unknown[0][:40]} is not known; the fields are {', '.join(KNOWN)}", unknown[0][:40])
        count, form = asked.get("n", 1), asked.get("response_format", "b64_json")
        if not _whole(count, 1, self.limits.pictures):
            raise Refused(400, f"n is {_shown(count)}; it must be between 1 and {self.limits.pictures}", "n")
        if form not in ("b64_json", "url"):
            raise Refused(400, f"response_format is {_shown(form)}; choose b64_json or url", "response_format")
        stream = asked.get("stream", False)
        if not isinstance(stream, bool) or (stream and count > 1):
            raise Refused(400, "stream must be true or false, and with true n must be 1", "stream")
        rounds = asked.get("rounds", min(self.usual.budget.rounds or 1, self.limits.rounds))
        if not _whole(rounds, 1, self.limits.rounds):
            raise Refused(400, f"rounds is {_shown(rounds)}; it must be between 1 and {self.limits.rounds}", "rounds")
        if not isinstance(prompt := asked.get("prompt"), str):
            raise Refused(400, f"prompt is {_shown(prompt)}; say what the picture should show", "prompt")
        seed = asked.get("seed", secrets.randbelow(2**32))
        if not _whole(seed, 0, 2**63 - 1 - self.limits.pictures):
            raise Refused(400, f"seed is {_shown(seed)}; it must be a whole number from 0", "seed")
        given = {name: asked[name] for name in ("strategy", "candidates") if asked.get(name) is not None}
        if not isinstance(given.get("strategy", ""), str) or not _whole(given.get("candidates", 1), 1, 64):
            raise Refused(400, "strategy must be a name, and candidates a number from 1 to 64")
        if not isinstance(guided := asked.get("guided", self.usual.guided), bool):
            raise Refused(400, f"guided is {_shown(guided)}; it must be true or false", "guided")
        width, height = self._size(asked.get("size", "auto"))
        budget = replace(self.usual.budget, rounds=rounds)
        try:
            brief = replace(
                self.usual, prompt=prompt, width=width, height=height, budget=budget, seed=seed, guided=guided, **given
            )
            if self._check:
                self._check(prompt)
        except BadInput as error:
            raise Refused(400, str(error), "prompt") from error
        return Order(tuple(replace(brief, seed=seed + number) for number in range(count)), stream, form == "url")

    def _size(self, text: Any) -> tuple[int, int]:
        if text in ("auto", None):
            return self.usual.width, self.usual.height
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text) if isinstance(text, str) else None
        if not found or not all(16 <= int(side) <= self.limits.side for side in found.groups()):
            raise Refused(
                400,
                f"size is {_shown(text)}; write WIDTHxHEIGHT with sides from 16 to {self.limits.side}, or auto",
                "size",
            )
        return int(found[1]), int(found[2])

    async def _events(self, brief: Brief, base: str) -> AsyncIterator[str]:
        """Yield server-sent events: each picture as it is drawn, each step as it is judged, and the end."""
        lines: asyncio.Queue[Any] = asyncio.Queue()
        loop, tally, drawn = asyncio.get_running_loop(), Tally(), 0
        run = asyncio.ensure_future(
            self._picture(brief, lambda what: loop.call_soon_threadsafe(lines.put_nowait, what))
        )
        run.add_done_callback(lambda _: lines.put_nowait(None))
        try:
            while (told := await lines.get()) is not None:
                folder, line = told
                tally.read(line)
                if line["event"] == "drawn" and line["result"]["candidates"]:
                    data = (folder / line["result"]["candidates"][0]["file"]).read_bytes()
                    picture = base64.b64encode(data).decode()
                    yield _event("image_generation.partial_image", partial_image_index=drawn, b64_json=picture)
                    drawn += 1
                elif line["event"] == "step":
                    step = line["steps"][-1]
                    yield _event("clvr.step", index=step["index"], accepted=step["accepted"], words=tally.words(step))
            done = run.result()
            yield _event("image_generation.completed", b64_json=done.picture(), clvr=done.told(base))
        except Refused as refused:
            yield _event("error", error={"message": str(refused), "code": refused.status})
        finally:
            run.cancel()

    async def _picture(self, brief: Brief, tell: Callable[[tuple[Path, dict[str, Any]]], object]) -> Done:
        """Wait for a place and make a run. Raises Refused if it comes to no picture. Cancelled, it leaves its work."""
        loop, left = asyncio.get_running_loop(), threading.Event()
        self._waiting += 1
        self.metrics.waiting.inc()
        try:
            async with self._places:
                self.metrics.under_way.inc()
                try:
                    work = loop.run_in_executor(self._pool, self._drive, brief, tell, left)
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    left.set()
                    raise
                finally:
                    self.metrics.under_way.dec()
        finally:
            self._waiting -= 1
            self.metrics.waiting.dec()

    def _drive(
        self, brief: Brief, tell: Callable[[tuple[Path, dict[str, Any]]], object], left: threading.Event
    ) -> Done:
        folder = self.out / f"{int(time.time()):010}-{secrets.token_hex(8)}"
        begun = time.perf_counter()

        def heard(event: str, line: dict[str, Any]) -> None:
            tell((folder, line))

        try:
            store = RunFolder.create(folder)
            session = Session(brief, self.models, store, listener=heard)
            try:
                call = session.advance()
                while call is not None:
                    if left.is_set() or self._stop.is_set():
                        raise Stopped
                    result = session.perform(call)
                    session.note(call, result)
                    call = session.advance(result)
            finally:
                store.close()
        except Stopped:
            self.metrics.runs.labels("stopped").inc()
            raise Refused(503, f"the run {folder.name} was stopped; it is kept", retry=30) from None
        except Away as error:
            self.metrics.runs.labels("stopped").inc()
            raise Refused(503, f"a model is away: {error}", retry=60) from error
        except CannotWrite as error:
            self.metrics.runs.labels("failed").inc()
            raise Refused(500, "the run cannot be written; see the server's log") from error
        except (BadInput, JudgeFailure) as error:
            self.metrics.runs.labels("failed").inc()
            raise Refused(422, str(error).replace(str(folder), folder.name)) from error
        trajectory = session.trajectory
        self.metrics.ended(trajectory, time.perf_counter() - begun)
        if trajectory.best is None:
            raise Refused(502, f"no picture was drawn: {trajectory.outcome.reason if trajectory.outcome else ''}")
        return Done(folder, trajectory)


@dataclass(frozen=True, slots=True)
class Done:
    """A run that has ended with a picture."""

    folder: Path
    trajectory: Trajectory

    def picture(self) -> str:
        return base64.b64encode((self.folder / BEST).read_bytes()).decode()

    def url(self, base: str, file: str = "") -> str:
        return f"{base}/v1/runs/{self.folder.name}" + (f"/{file}" if file else "")

    def told(self, base: str) -> dict[str, Any]:
        """Return what the run came to, with links to its records."""
        outcome, step = self.trajectory.outcome, self.trajectory.best_step
        assert outcome is not None, "the run has ended"
        states = {verdict.goal: verdict.state for verdict in step.verdicts} if step else {}
        goals = [
            {"text": goal.text, "need": goal.need, "state": states.get(goal.id, "unsure")}
            for goal in self.trajectory.goals
        ]
        return {
            "id": self.folder.name,
            "met": outcome.met,
            "reason": outcome.reason,
            "goals": goals,
            "seed": self.trajectory.brief.seed,
            "rounds": sum(step.action.draws for step in self.trajectory.steps),
            "images": self.trajectory.cost.images,
            "trajectory": self.url(base),
            "report": self.url(base, REPORT),
        }


async def _body(request: Request) -> dict[str, Any]:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY:
            raise Refused(413, f"the body has more than {BODY:,} bytes")
    try:
        value = json_of(data)
    except ValueError as error:
        raise Refused(400, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refused(400, "the body is no JSON object")
    return value


def _event(kind: str, **more: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _shown(value: Any) -> str:
    return f"{value!r:.60}"


def _ignore(what: tuple[Path, dict[str, Any]]) -> None:
    pass
