"""Judging the pictures of a name and computing the result. A stopped run is continued, and no answer is lost."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .. import __version__
from ..errors import Away, BadInput
from ..protocols import Concurrent, Picture, Vlm
from .benchmarks import Benchmark, data_hash
from .benchmarks.base import Answers, Item
from .curve import curve_of
from .detector import Detector, verdict
from .judging import PROTOCOLS, Judged, judge_picture, words_hash
from .prompt_parse import words_of
from .scoring import Key, number, passes
from .store import Arm, file_hash, read_picture, write_json

SILENT = 5
"""After this many pictures in a row without an answer the judge is taken to be down."""
SCHEMA = 1
Progress = Callable[[int, int, str], None]


class Judge(Protocol):
    """Answers the questions about a picture.

    name, protocol: recorded in the result.
    words: SHA-256 of all texts that the judge is asked with.
    parallel: pictures at once.
    """

    name: str
    protocol: str
    words: str
    parallel: int

    def look(self, item: Item, pictures: Sequence[Picture]) -> Judged: ...


class VlmJudge:
    def __init__(
        self, vlm: Vlm, items: Sequence[Item], protocol: str = "decisions", parallel: int | None = None
    ) -> None:
        if protocol not in PROTOCOLS:
            raise BadInput(f"unknown protocol {protocol!r:.40}; choose one of {', '.join(PROTOCOLS)}")
        self.vlm, self.how, self.name = vlm, protocol, vlm.name
        self.protocol = f"VLM checklist judge: {PROTOCOLS[protocol]}"
        self.words = words_hash(items, protocol)
        # A server answers several at once; a model in this process has one set of weights.
        self.parallel = parallel or (vlm.parallel if isinstance(vlm, Concurrent) else 1)

    def look(self, item: Item, pictures: Sequence[Picture]) -> Judged:
        return judge_picture(self.vlm, item, pictures, self.how)


class BoxJudge:
    """GenEval's rules on a detector's boxes. Its verdict on the whole picture is the answer to each atom."""

    parallel = 1

    def __init__(self, detector: Detector) -> None:
        self.detector, self.name = detector, f"detector {detector.name}"
        self.protocol = "GenEval's rules on the boxes of another detector than the official one"
        self.words = hashlib.sha256(self.protocol.encode()).hexdigest()

    def look(self, item: Item, pictures: Sequence[Picture]) -> Judged:
        started, picture = time.perf_counter(), pictures[0]
        found, color_of = self.detector.found(picture), self.detector.color_of(picture)
        loose, reasons = verdict(item.record, found, color_of)
        exact, more = verdict(item.record, found, color_of, exact=True)
        answers: dict[str, float | None] = {atom.id: float(exact if atom.extra else loose) for atom in item.atoms}
        said = {item.atoms[0].id: "; ".join(dict.fromkeys([*reasons, *more]))} if more else {}
        return Judged(answers, said, calls=1, seconds=time.perf_counter() - started)


@dataclass
class Scored:
    """The result of a scoring.

    down: why it was stopped early, or "".
    """

    result: dict[str, Any]
    path: Path
    down: str = ""


@dataclass
class _Tally:
    silent: int = 0
    down: str = ""
    done: int = 0
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    unreadable: list[str] = field(default_factory=list)


class Scoring:
    def __init__(
        self, bench: Benchmark, data: Path, arm: Arm, judge: Judge, items: Sequence[Item], pictures: int | None = None
    ) -> None:
        """pictures: of each item, at most; None for all."""
        self.bench, self.data, self.arm, self.judge, self.items = bench, data, arm, judge, list(items)
        self.most = pictures or max((item.pictures for item in self.items), default=1)
        self.key = hashlib.sha256(f"{judge.name}\0{judge.protocol}\0{judge.words}".encode()).hexdigest()[:10]
        self.journal = arm.answers(self.key)

    def there(self) -> dict[Key, Path]:
        found = (
            (item, k, self.arm.find(self.bench, item, k))
            for item in self.items
            for k in range(min(self.most, item.pictures))
        )
        return {(item.id, k): path for item, k, path in found if path is not None}

    def known(self, there: Mapping[Key, Path]) -> dict[Key, dict[str, Any]]:
        """Return the last line of each picture that is complete and was judged from the same file."""
        latest = {(line["item"], line["k"]): line for line in self.journal.lines}
        names = {item.id: {part.id for part in (*item.atoms, *item.scales)} for item in self.items}
        return {
            key: line
            for key, line in latest.items()
            if key in there and line["answers"].keys() == names[key[0]] and line["sha256"] == file_hash(there[key])
        }

    def one(self, item: Item, k: int) -> dict[str, Any]:
        """Return the line of one picture, judged now unless it is known. Raises BadInput for a picture that cannot be
        read."""
        path = self.arm.find(self.bench, item, k)
        if path is None:
            raise BadInput(f"{self.arm.folder / self.bench.path(item, k)} is not there")
        line = self.known({(item.id, k): path}).get((item.id, k))
        if line is None or any(value is None for value in line["answers"].values()):
            self._keep(item, k, path, self.judge.look(item, self._pictures(item, path)), _Tally())
            line = self.journal.lines[-1]
        return line

    def standing(self) -> dict[str, Any]:
        """Write the result of all answers up to now, and return it."""
        there = self.there()
        result = self.result({key: line["answers"] for key, line in self.known(there).items()}, there, _Tally())
        write_json(self.arm.kept / f"result-{self.key}.json", result)
        return result

    def _pictures(self, item: Item, path: Path) -> list[Picture]:
        return [*([read_picture(self.data / item.source)] if item.source else []), read_picture(path)]

    def run(self, progress: Progress = lambda done, total, remark: None) -> Scored:
        """Judge the pictures. Raises BadInput if there are none. A judge that is down ends it early; the answers before
        are kept."""
        there = self.there()
        if not there:
            raise BadInput(
                f"{self.arm.folder} has no picture of {self.bench.name}: the first would be {self.bench.path(self.items[0], 0)}; make them "
                "with clvr eval generate, or put them there"
            )
        known = self.known(there)
        whole = {key for key, line in known.items() if all(value is not None for value in line["answers"].values())}
        items = {item.id: item for item in self.items}
        left = [(items[name], k) for name, k in there if (name, k) not in whole]
        tally = _Tally(done=len(there) - len(left))
        progress(tally.done, len(there), "")
        for item, k, outcome in self._looked(left, there, tally):
            if isinstance(outcome, Away):
                tally.down = tally.down or str(outcome)
                continue
            if isinstance(outcome, BadInput):
                tally.unreadable.append(str(outcome))
            else:
                self._keep(item, k, there[item.id, k], outcome, tally)
            tally.done += 1
            progress(
                tally.done,
                len(there),
                f"{outcome.missing} unanswered" if isinstance(outcome, Judged) and outcome.missing else "",
            )
        result = self.result({key: line["answers"] for key, line in self.known(there).items()}, there, tally)
        path = self.arm.kept / f"result-{self.key}.json"
        write_json(path, result)
        return Scored(result, path, tally.down)

    def _keep(self, item: Item, k: int, path: Path, judged: Judged, tally: _Tally) -> None:
        tally.silent = tally.silent + 1 if judged.silent else 0
        if tally.silent >= SILENT and not tally.down:
            tally.down = f"{self.judge.name} gave no answer for {SILENT} pictures running: {next(iter(judged.reasons.values()), '')}"
        self.journal.append(
            {
                "item": item.id,
                "k": k,
                "sha256": file_hash(path),
                "answers": judged.answers,
                "reasons": judged.reasons,
                "vlm_tokens": judged.tokens,
                "vlm_calls": judged.calls,
                "seconds": round(judged.seconds, 3),
            }
        )

    def _looked(
        self, left: Sequence[tuple[Item, int]], there: Mapping[Key, Path], tally: _Tally
    ) -> Iterator[tuple[Item, int, Judged | BadInput | Away]]:
        """Yield the judged pictures as they are answered, at most `parallel` at once; none is begun after the judge is
        down."""

        def look(item: Item, k: int) -> Judged | BadInput | Away:
            try:
                return self.judge.look(item, self._pictures(item, there[item.id, k]))
            except (BadInput, Away) as error:
                return error

        queue = iter(left)
        if self.judge.parallel == 1:
            for item, k in queue:
                if tally.down:
                    return
                yield item, k, look(item, k)
            return
        with ThreadPoolExecutor(self.judge.parallel) as pool:
            running = {}
            while True:
                while len(running) < self.judge.parallel and not tally.down and (following := next(queue, None)):
                    running[pool.submit(look, *following)] = following
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item, k = running.pop(future)
                    yield item, k, future.result()

    def result(self, answers: Mapping[Key, Answers], there: Mapping[Key, Path], tally: _Tally) -> dict[str, Any]:
        made = {(line["item"], line["k"]): line for line in self.arm.made() if "file" in line}
        latest = {(line["item"], line["k"]): line for line in self.journal.lines}
        said = result_of(self.bench, self.data, self.items, answers, self.most, there=len(there))
        said |= {
            "name": self.arm.name,
            "protocol": self.judge.protocol,
            "judge": self.judge.name,
            "words_sha256": self.judge.words,
        }
        said["made_by"] = self.arm.settings
        said["spent"] = spent([made[key] for key in there if key in made])
        said["judging"] = {part: round(sum(latest[key][part] for key in there if key in latest), 3) for part in JUDGED}
        said["warnings"] += self._warnings(tally, made, there)
        return said

    def _warnings(self, tally: _Tally, made: Mapping[Key, Any], there: Mapping[Key, Path]) -> list[str]:
        warnings = [tally.down] if tally.down else []
        warnings += (
            [f"{len(tally.unreadable)} pictures cannot be read: {tally.unreadable[0]}"] if tally.unreadable else []
        )
        changed = sum(key in made and made[key]["sha256"] != file_hash(path) for key, path in there.items())
        warnings += [f"{changed} pictures are not those that were drawn here"] if changed else []
        steered = self.arm.settings.get("models", {}).get("verifier")
        if steered is not None and steered == self.judge.name:
            warnings.append(
                f"{steered} also steered these pictures; what it likes is not what is there: score with another judge"
            )
        wanted = {(item.id, k) for item in self.items for k in range(item.pictures)}
        places = {self.bench.path(item, k) for item in self.items for k in range(max(item.pictures, 16))}
        endings = {".png", ".jpg", ".jpeg", ".webp"}
        stems = {str(Path(place).with_suffix("")) for place in places}
        others = [path for path in self.arm.folder.rglob("*") if path.suffix in endings]
        extra = sum(path.relative_to(self.arm.folder).with_suffix("").as_posix() not in stems for path in others)
        warnings += [f"{extra} pictures in {self.arm.folder.name} belong to no item"] if extra else []
        fewer = {key for key in wanted if key[1] < self.most} - there.keys()
        warnings += (
            [f"{len(fewer)} of {len({key for key in wanted if key[1] < self.most})} pictures are missing"]
            if fewer
            else []
        )
        return warnings


SPENT = ("evaluations", "images", "vlm_tokens", "vlm_calls", "seconds")
JUDGED = ("vlm_tokens", "vlm_calls", "seconds")


def spent(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means of the costs over the pictures, the range of their seeds, and of a loop how many runs drew in 1, 2, ...
    rounds; empty if the pictures were made elsewhere."""
    if not lines:
        return {}
    means = {name: round(sum(line[name] for line in lines) / len(lines), 3) for name in SPENT}
    drawn = Counter(line["rounds"] for line in lines if "rounds" in line)
    return {
        "pictures": len(lines),
        **means,
        "seeds": [min(line["seed"] for line in lines), max(line["seed"] for line in lines)],
        **({"rounds": {str(rounds): drawn[rounds] for rounds in sorted(drawn)}} if drawn else {}),
    }


def result_of(
    bench: Benchmark,
    data: Path,
    items: Sequence[Item],
    answers: Mapping[Key, Answers],
    pictures: int,
    there: int,
    untold: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result: the measures and their basis.

    untold: measures that these answers cannot give.
    """
    measures = {}
    for measure in bench.measures:
        if measure.name in untold:
            continue
        got = number(measure, items, answers, pictures)
        measures[measure.name] = {
            "value": got.value,
            "strict": got.strict,
            "ci95": None if got.bounds is None else [got.bounds.low, got.bounds.high],
            "of": measure.top,
            "items": got.count,
            "tags": got.tags,
        }
    expected = sum(min(pictures, item.pictures) for item in items)
    passed = passes(bench, items, answers, pictures)
    scores = [complexity_of(item) for item in items]
    silent = sum(any(value is None for value in known.values()) for known in answers.values())
    warnings = []
    if bench.expected not in (None, len(items)):
        warnings.append(f"{len(items)} items, and the benchmark has {bench.expected}")
    if pictures < max((item.pictures for item in items), default=1):
        warnings.append(
            f"{pictures} pictures of each item, and the benchmark takes {max(item.pictures for item in items)}"
        )
    if silent:
        warnings.append(
            f"the judge left {silent} of {len(answers)} pictures without some answer; they are out of the value, and 0 in the strict one"
        )
    return {
        "schema": SCHEMA,
        "clvr": __version__,
        "bench": bench.name,
        "title": bench.title,
        "data_sha256": data_hash(bench, data),
        "items": len(items),
        "pictures": {"expected": expected, "there": there, "judged": len(answers), "unanswered": silent},
        "measures": measures,
        "by_item": [
            {
                "id": item.id,
                "passed": None if value != value else float(value),
                "complexity": score,
                "words": words_of(item.prompt),
            }
            for item, value, score in zip(items, passed, scores)
        ],
        "curve": curve_of(scores, [words_of(item.prompt) for item in items], passed),
        "notes": list(bench.notes),
        "warnings": warnings,
    }


def complexity_of(item: Item) -> float | None:
    """Return the benchmark's own complexity, or else the score C_v1 of the item's parse."""
    if item.complexity is not None:
        return item.complexity
    return None if item.parse is None else item.parse.score


def keep_official(bench: Benchmark, data: Path, arm: Arm, items: Sequence[Item], path: Path) -> Scored:
    """Write the result of an official script's file in the same form."""
    from .official import UNTOLD, read_official

    answers, odd = read_official(bench, items, path)
    most = max(item.pictures for item in items)
    result = result_of(bench, data, items, answers, most, len(answers), UNTOLD.get(bench.name, ()))
    made = {(line["item"], line["k"]): line for line in arm.made() if "file" in line}
    digest = file_hash(path)
    result |= {
        "name": arm.name,
        "title": bench.title.removesuffix("-compatible").replace("-legacy", ""),
        "protocol": "the benchmark's own script, run elsewhere",
        "judge": f"as in {path.name}",
        "words_sha256": None,
        "file_sha256": digest,
        "made_by": arm.settings,
        "spent": spent([line for key, line in made.items() if key in answers]),
        "judging": {},
    }
    result["warnings"] += odd
    kept = arm.kept / f"result-official-{digest[:10]}.json"
    write_json(kept, result)
    journal = arm.kept / f"answers-official-{digest[:10]}.jsonl"
    journal.unlink(missing_ok=True)
    lines = arm.answers(f"official-{digest[:10]}")
    for (name, k), known in answers.items():
        lines.append({"item": name, "k": k, "sha256": "", "answers": dict(known), "reasons": {}})
    return Scored(result, kept)
