"""Running a planned merge into a file that is whole or not there, and verifying a merged file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput
from ..weights.checkpoint import File
from . import header as headers
from .formula import CONTRACT
from .keep import kept_lora
from .measures import Findings, summed
from .orthogonal import without_share
from .plan import MergePlan, make_plan
from .recipe import flag_of
from .stream import Progress, Stream, Streamed, default_threads
from .sums import Sums
from .survey import Cancel, Survey, survey, survival_warnings
from .target import Target, check_target


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    out: the merged file.
    nbytes: its size.
    read: bytes of weights read for the arithmetic.
    hashed: bytes of inputs hashed; those whose sum is known from an earlier merge are not.
    seconds: wall time, survey included.
    found: the measures.
    engine: what merged, in words.
    kept: the LoRA written beside it, if the recipe keeps LoRAs.
    """

    out: Path
    nbytes: int
    read: int
    hashed: int
    seconds: float
    found: Findings
    engine: str
    kept: Path | None = None


def merge(
    plan: MergePlan,
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    sha256: bool = True,
    measured: bool = False,
    surveyed: Survey | None = None,
    lora_out: Path | None = None,
) -> Merged:
    """Write the merged checkpoint.

    plan: an open plan.
    out: a path that ends in .safetensors.
    progress: called in this thread with the bytes done and in all, at most 20 times a second.
    cancel: called in this thread as often; returns True to stop.
    threads: worker threads, one more than there are cores (at most 8) if None.
    overwrite: replace `out` if it exists; if it is a link, the file that the link leads to.
    sha256: record the SHA-256 of the inputs. Hashing takes longer than the merge; files that have not changed since an
        earlier merge are not hashed again.
    measured: measure the deltas of every weight instead of a sample. This takes longer than the merge.
    surveyed: the result of `survey` on this plan, if the caller made it before.
    lora_out: path for the LoRAs that the recipe keeps, OUT.lora.safetensors if None.

    Raises BadInput for inputs that cannot be merged and for a file that cannot be written, Cancelled if it was stopped.
    In both cases `out` is unchanged and no temporary file stays. The temporary file of a merge that was killed is
    removed by the next one to `out`.
    """
    out, started, begun = Path(out), time.perf_counter(), time.time_ns()
    title = out.stem
    sums = headers.no_sums(plan) if sha256 else {}
    start = len(headers.header(plan, headers.metadata(plan, sums, title)))
    check_target(plan, out, start + plan.nbytes, overwrite)
    found = surveyed or survey(plan, cancel)
    _settle(plan, threads, cancel)
    kept = (lora_out or out.with_name(f"{out.stem}.lora.safetensors")) if plan.kept else None
    if kept:
        check_target(plan, kept, 0, overwrite)
    files = _files(plan) if sha256 else []
    table = Sums()
    known = table.known(files)
    hashed = [file for file in files if file not in known]
    with Target(out, start, plan.nbytes, overwrite=overwrite) as target:
        stream = Stream(plan, threads=threads, progress=progress, cancel=cancel, hashed=hashed, measured=measured)
        streamed = stream.run(target.write)
        head = headers.header(plan, headers.metadata(plan, known | streamed.sha256, title))
        _check_unchanged(plan)
        table.keep(streamed.sha256, begun)
        target.seal(head)
        if kept:
            with kept_lora(plan, kept, overwrite) as lora:
                target.place_with(lora)
        else:
            target.place()
    seconds = time.perf_counter() - started
    return Merged(
        out,
        start + plan.nbytes,
        streamed.read,
        sum(file.size for file in hashed),
        seconds,
        _findings(plan, found, streamed, measured),
        streamed.engine,
        kept,
    )


def _findings(plan: MergePlan, found: Survey, streamed: Streamed, measured: bool) -> Findings:
    if not measured:
        return found.findings()
    # Every weight was measured, so the estimated warnings about survival are replaced. In the order of the file, not of
    # the threads.
    estimated = survival_warnings(plan, found.tensors, summed(found.blocks.values()))
    tensors = {name: streamed.tensors[name] for name in found.tensors if name in streamed.tensors}
    blocks = {name: streamed.blocks[name] for name in found.blocks if name in streamed.blocks}
    warnings = [each for each in found.warnings if each not in estimated] + survival_warnings(
        plan, tensors, summed(blocks.values())
    )
    return Findings(tensors, blocks, False, tuple(warnings), found.findings().noise)


def _settle(plan: MergePlan, threads: int | None, cancel: Cancel | None) -> None:
    if plan.recipe.combine == "orthogonal" and not plan.settled:
        plan.segments = without_share(plan.segments, threads or default_threads(), cancel)
        plan.settled = True


def _files(plan: MergePlan) -> list[File]:
    return [file for _, checkpoint in plan.checkpoints for file in checkpoint.files]


def _check_unchanged(plan: MergePlan) -> None:
    for file in _files(plan):
        if file.changed:
            raise BadInput(f"{file.path} was changed while it was merged; merge again once it is complete")


def made_before(plan: MergePlan, out: Path) -> bool:
    """Say whether `out` is already the file that `merge` would write.

    It is if its recorded recipe, the names and sizes of the inputs and the contract are the same, and no input is
    newer.
    """
    if not out.is_file():
        return False
    try:
        file = File(out)
    except BadInput:
        return False
    try:
        record = headers.read_record(file)
        same = (
            headers.without_sums(record) == headers.record(plan, {}) and file.metadata.get("dswm.contract") == CONTRACT
        )
    except (BadInput, KeyError, TypeError):  # not a merged file, or damaged
        return False
    finally:
        file.close()
    return same and all(file.modified >= each.modified for each in _files(plan))


def verify(
    out: str | os.PathLike[str],
    paths: dict[str, Path],
    loras: tuple[Path, ...] = (),
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    threads: int | None = None,
) -> list[tuple[str, str]]:
    """Merge again in memory by the recorded recipe of `out`, and compare every byte.

    paths: inputs by role; `added 1` and so on for further checkpoints.
    loras: LoRAs, in the order of the recipe.
    progress, cancel, threads: as in `merge`.

    An input without a path is looked for beside `out` under its recorded name. Returns role and path of each input.
    Raises BadInput if something differs, naming the input whose SHA-256 or the tensor whose bytes differ.
    """
    file = File(Path(out))
    try:
        record = headers.read_record(file)
        found, given = _inputs(file, record, paths, loras)
        recipe = headers.recipe_of(file, record, found, given)
        with make_plan(recipe) as plan:
            _same_header(file, plan)
            survey(plan)
            _settle(plan, threads, cancel)
            compare = _Compare(file, plan)
            stream = Stream(plan, threads=threads, progress=progress, cancel=cancel, hashed=_files(plan))
            streamed = stream.run(compare.take)
            _same_sums(file, record, plan, streamed)
            compare.raise_if_different()
            _same_metadata(file, plan, streamed)
            return [(role, str(checkpoint.path)) for role, checkpoint in plan.checkpoints]
    finally:
        file.close()


class _Compare:
    """A sink that compares the windows of a stream with a file, instead of writing them."""

    def __init__(self, file: File, plan: MergePlan) -> None:
        self._file, self._plan = file, plan
        self._places: list[int] = []

    def take(self, start: int, view: memoryview, size: int) -> None:
        there = self._file.read(self._file.data + start, size)
        if there != view[:size]:
            self._places.append(
                start + next(index for index, (left, right) in enumerate(zip(there, view[:size])) if left != right)
            )

    def raise_if_different(self) -> None:
        if self._places:
            place = min(self._places)
            output = next(each for each in self._plan.outputs if each.start <= place < each.start + each.nbytes)
            raise BadInput(
                f"{self._file.path}: {output.name} is not what its recipe gives, first in its byte {place - output.start}: "
                "the file was changed or damaged; merge anew"
            )


def _inputs(
    file: File, record: dict, paths: dict[str, Path], loras: tuple[Path, ...]
) -> tuple[dict[str, Path], tuple[Path, ...]]:
    found, given = {}, []
    more = iter(loras)
    for entry in record["inputs"]:
        role, name = entry["role"], entry["name"]
        path = next(more, None) if role == "lora" else paths.get(role)
        path = path or _beside(file.path.parent, os.path.basename(name))
        if not path.exists():
            raise BadInput(f"{file.path} was merged from {name}, which is not beside it; give it with {flag_of(role)}")
        if role == "lora":
            given.append(path)
        else:
            found[role] = path
    return found, tuple(given)


def _beside(folder: Path, name: str) -> Path:
    """Return the path of a recorded name. One that is no UTF-8 is recorded as `headers.utf8` spells it."""
    if (folder / name).exists():
        return folder / name
    return next((each for each in folder.iterdir() if headers.utf8(each.name) == name), folder / name)


def _same_header(file: File, plan: MergePlan) -> None:
    expected = {output.name: (output.dtype, output.shape, output.start) for output in plan.outputs}
    there = {name: (tensor.dtype, tensor.shape, tensor.start - file.data) for name, tensor in file.tensors.items()}
    for name in [*expected, *there]:
        if expected.get(name) != there.get(name):
            raise BadInput(
                f"{file.path}: {name} is {there.get(name)}, by its recipe it is {expected.get(name)}; merge anew"
            )


def _same_sums(file: File, record: dict, plan: MergePlan, streamed: Streamed) -> None:
    for entry, (role, checkpoint) in zip(record["inputs"], plan.checkpoints):
        for noted, part in zip(entry["files"], checkpoint.files):
            if noted.get("sha256", streamed.sha256[part]) != streamed.sha256[part]:
                raise BadInput(
                    f"{part.path} is not the {role} that {file.path} was merged from, its sha256 differs; give the right one"
                )


def _same_metadata(file: File, plan: MergePlan, streamed: Streamed) -> None:
    title = file.metadata.get("modelspec.title", "")
    sums = streamed.sha256 if '"sha256"' in file.metadata[headers.RECIPE] else {}
    expected = headers.metadata(plan, sums, title)
    different = sorted(
        key for key in expected.keys() | file.metadata.keys() if expected.get(key) != file.metadata.get(key)
    )
    different = [key for key in different if key not in ("dswm.version", headers.RECIPE, "modelspec.merged_from")]
    if different:
        raise BadInput(f"{file.path}: its metadata {', '.join(different)} is not what its recipe gives; merge anew")
