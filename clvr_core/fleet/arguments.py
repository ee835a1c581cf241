"""The flags of the command line that choose where work is done."""

from __future__ import annotations

import argparse

from ..errors import BadInput
from .crew import Engine

ENGINES = ("local", "ray")


def add_engine(command: argparse.ArgumentParser) -> None:
    """Add the flags that `engine_of` reads."""
    group = command.add_argument_group("where the work is done")
    group.add_argument(
        "--engine",
        default="local",
        metavar="WHERE",
        help="local: here (default); ray: on a Ray cluster, with the extra `scale`",
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes with models of their own (default: none but this one; with ray one for each share of a GPU, or each node)",
    )
    group.add_argument(
        "--gpus",
        type=float,
        default=0.0,
        metavar="X",
        help="GPUs of one worker, such as 0.5 for two on each (default 0)",
    )
    group.add_argument(
        "--address", metavar="HOST:PORT", help="of the Ray cluster (default: RAY_ADDRESS, or one of its own)"
    )


def engine_of(options: argparse.Namespace, concurrency: int) -> Engine | None:
    """Return the engine that the flags ask for; None if the work is to be done in this process.

    concurrency: pieces of work at the same time, in all.

    Raises BadInput for flags that do not go together, and if Ray cannot be reached.
    """
    workers, gpus = options.workers, options.gpus
    if options.engine not in ENGINES:
        raise BadInput(f"--engine is {options.engine!r:.40}; choose one of {', '.join(ENGINES)}")
    if workers is not None and not 1 <= workers <= 100_000:
        raise BadInput(f"--workers is {workers}; it must be between 1 and 100,000")
    if not 0 <= gpus <= 64 or (gpus > 1 and gpus != int(gpus)):
        raise BadInput(f"--gpus is {gpus:g}; give a share of one, or a whole number up to 64")
    if options.engine == "local":
        if options.address:
            raise BadInput(f"--address {options.address} is of a Ray cluster; give --engine ray as well")
        if workers is None and not gpus:
            return None
        from .processes import Processes

        return Processes(workers or 1, concurrency, gpus)
    from .on_ray import Ray

    return Ray(options.address, workers, concurrency, gpus)
