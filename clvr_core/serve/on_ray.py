"""Replicas of the service by Ray Serve."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from ray import serve  # pyright: ignore[reportMissingImports]
from starlette.requests import Request
from starlette.responses import Response

from ..fleet.on_ray import connect, passed
from ..models.source import Source
from .command import keys_of, service_of
from .service import Limits

NAME = "clvr"


class Replica:
    """One service with models of its own. The keys come from the variable on its own node."""

    def __init__(self, source: Source, out: Path, limits: Limits, variable: str) -> None:
        self.service = service_of(source, out, limits, keys_of(variable, "localhost"))

    async def __call__(self, request: Request) -> Response:
        return await self.service.answer(request)

    def check_health(self) -> None:
        if self.service.stopped:
            raise RuntimeError("the service is stopping")


def deploy(source: Source, options: argparse.Namespace, limits: Limits, variable: str) -> None:
    """Start the replicas. Returns once they answer."""
    connect(options.address)
    # A cluster shows what it is given, so one that others use gets no keys.
    names = passed(options.gpus, *([variable] if variable and not options.address else []))
    made: Any = serve.deployment(
        Replica,
        name=NAME,
        num_replicas=options.replicas,
        ray_actor_options={"num_gpus": options.gpus, "num_cpus": 0, "runtime_env": {"env_vars": names}},
        max_ongoing_requests=limits.concurrency + limits.queue + 8,
    )
    serve.start(http_options={"host": options.host, "port": options.port})
    serve.run(made.bind(source, options.out, limits, variable), name=NAME, route_prefix="/")


def serve_replicas(source: Source, options: argparse.Namespace, limits: Limits, variable: str) -> None:
    """Serve until a signal ends it."""
    deploy(source, options, limits, variable)
    print(f"http://{options.host}:{options.port}/v1/images/generations; {options.replicas} replicas", file=sys.stderr)
    try:
        signal.pause()
    finally:
        serve.shutdown()
