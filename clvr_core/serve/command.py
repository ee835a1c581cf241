"""`clvr serve`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..brief import Brief, Budget
from ..errors import BadInput
from ..models.arguments import add_models, add_weights, add_witness

if TYPE_CHECKING:
    from ..models.source import Source
    from .service import Limits, Service


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_models(command)
    add_weights(command)
    add_witness(command)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder in it for each run")
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at (default 127.0.0.1)")
    command.add_argument("--port", type=int, default=8400, help="to listen at (default 8400)")
    command.add_argument(
        "--key-variable",
        default="",
        metavar="NAME",
        help="the environment variable with the keys that are let in, a comma between",
    )
    command.add_argument("--concurrency", type=int, default=4, metavar="K", help="runs side by side (default 4)")
    command.add_argument("--queue", type=int, default=16, metavar="N", help="runs that wait at most (default 16)")
    command.add_argument("--rounds", type=int, default=8, help="rounds of a run at most (default 8)")
    command.add_argument("--replicas", type=int, metavar="N", help="so many, by Ray Serve with the extra `scale`")
    command.add_argument("--gpus", type=float, default=0.0, metavar="X", help="GPUs of one replica (default 0)")
    command.add_argument(
        "--address", metavar="HOST:PORT", help="of the Ray cluster (default: RAY_ADDRESS, or one of its own)"
    )
    command.set_defaults(run=_run, json=False)


def _run(options: argparse.Namespace) -> int:
    from ..models.source import Named
    from .service import Limits

    for name, least, most in (("concurrency", 1, 1024), ("queue", 0, 100_000), ("rounds", 1, 1000), ("port", 0, 65535)):
        if not least <= (value := getattr(options, name)) <= most:
            raise BadInput(f"--{name} is {value}; it must be between {least} and {most:,}")
    if options.replicas is not None and not 1 <= options.replicas <= 10_000:
        raise BadInput(f"--replicas is {options.replicas}; it must be between 1 and 10,000")
    keys = keys_of(options.key_variable, options.host)
    limits = Limits(options.concurrency, options.queue, rounds=options.rounds)
    source = Named(options.models, options.weights, options.witness)
    if options.replicas:
        from .on_ray import serve_replicas

        serve_replicas(source, options, limits, options.key_variable)
        return 0
    serve_here(source, options, limits, keys)
    return 0


def keys_of(variable: str, host: str) -> list[str]:
    """Return the keys that are let in. Raises BadInput if there are none and others than this machine can reach it."""
    if not variable:
        if not _loopback(host):
            raise BadInput(
                f"--host {host} is open to others, and no key is asked for; name the environment variable with the keys by --key-variable"
            )
        return []
    keys = [key.strip() for key in os.environ.get(variable, "").split(",") if key.strip()]
    if not keys:
        raise BadInput(
            f"--key-variable names {variable}, which is not set or empty; set it to a key, or several with commas"
        )
    return keys


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def service_of(source: Source, out: Path, limits: Limits, keys: list[str]) -> Service:
    """Load the models and return their service."""
    from .service import Service

    models = source.load()
    usual = Brief("any", width=models.width, height=models.height, budget=Budget(rounds=limits.rounds), guided=True)
    return Service(models, out, usual, replace(limits, side=max(limits.side, models.width, models.height)), keys)


def serve_here(source: Source, options: argparse.Namespace, limits: Limits, keys: list[str]) -> None:
    """Serve until a signal ends it."""
    import uvicorn

    from .app import app_of

    service = service_of(source, options.out, limits, keys)
    print(f"http://{options.host}:{options.port}/v1/images/generations; end it by Ctrl-C", file=sys.stderr)
    uvicorn.run(app_of(service), host=options.host, port=options.port, log_level="warning", access_log=False)
