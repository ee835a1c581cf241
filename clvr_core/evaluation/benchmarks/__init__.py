"""The benchmarks by name. None of their data are part of this package."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...errors import BadInput
from .base import Benchmark, Item
from .embedded import SHIPPED, EmbeddedGenEval, EmbeddedLgBench
from .geneval import GenEval
from .geneval2 import GenEval2
from .geneval_plus import GenEvalPlus
from .imagine import Imagine
from .imgedit import ImgEdit
from .lgbench import LgBench
from .prism import Prism
from .prompts import Prompts
from .r3bench import R3Bench
from .wise import Wise, WiseVerified

# Those with a file name of their own come first: a folder is taken for the first that knows it.
BENCHMARKS: dict[str, Benchmark] = {
    bench.name: bench
    for bench in (
        GenEval(),
        EmbeddedGenEval(),
        GenEvalPlus(),
        GenEval2(),
        Wise(),
        WiseVerified(),
        Imagine(),
        ImgEdit(),
        R3Bench(),
        EmbeddedLgBench(),
        LgBench(),
        Prompts(),
        Prism(),
    )
}

__all__ = ["BENCHMARKS", "SHIPPED", "Benchmark", "Item", "data_hash", "recognise"]


def recognise(folder: Path, name: str = "auto") -> Benchmark:
    """Return the benchmark of a name, or with `auto` the one whose data the folder holds. Raises BadInput if there is
    none."""
    if name != "auto" and name not in BENCHMARKS:
        raise BadInput(f"unknown benchmark {name!r:.40}; choose one of {', '.join(BENCHMARKS)}, or auto")
    if not folder.is_dir():
        raise BadInput(f"the data folder {folder} is not there; it is to hold the benchmark's own files")
    for bench in BENCHMARKS.values() if name == "auto" else (BENCHMARKS[name],):
        if bench.find(folder):
            return bench
    wanted = (
        f"any of {', '.join(BENCHMARKS[name].files)}" if name != "auto" else "the files of any benchmark that is known"
    )
    raise BadInput(f"{folder} does not hold {wanted}; get the data from the benchmark's own place and name its folder")


def data_hash(bench: Benchmark, folder: Path) -> str:
    """SHA-256 over the names and bytes of the files that were read."""
    digest = hashlib.sha256()
    for path in bench.find(folder):
        digest.update(f"{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
