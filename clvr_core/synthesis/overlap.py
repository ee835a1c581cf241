"""Keeps the prompts of a benchmark out of training data: what was trained on cannot be measured with."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import BadInput
from ..reading import json_of

ONE_IN = 10
"""Prompts of so many words are near to each other if one word differs, of twice as many if two do."""
KEYS = ("prompt", "text", "caption", "Prompt")
"""Names under which the lines of a benchmark's file hold the prompt."""

Words = tuple[str, ...]


def read_benchmark(path: Path) -> list[str]:
    """Read the prompts of a benchmark: one a line, as text or as a JSON object with one of KEYS.

    Raises BadInput for a file that cannot be read, and for one with no prompt or with a line that holds none.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise BadInput(f"the benchmark's prompts in {path} cannot be read: {error}") from error
    if not lines:
        raise BadInput(f"{path} holds no prompts; write one a line, as text or as JSON with a field prompt")
    return [_prompt_of(path, number, line) for number, line in enumerate(lines, 1)]


def _prompt_of(path: Path, number: int, line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        held = json_of(line)
    except ValueError as error:
        raise BadInput(f"{path} line {number} is no JSON ({error}); mend the line") from error
    found = next((held[key] for key in KEYS if isinstance(held.get(key), str)), None)
    if found is None:
        raise BadInput(
            f"{path} line {number} has no prompt: {json.dumps(list(held))[:80]}; name it one of {', '.join(KEYS)}"
        )
    return found


def words_of(prompt: str) -> Words:
    """Return the words of a prompt without case and punctuation."""
    return tuple(re.findall(r"\w+", prompt.casefold()))


def near(one: Words, other: Words) -> bool:
    """Whether at most one word in ONE_IN would have to be put in, left out or replaced to make one of the other."""
    most = min(len(one), len(other)) // ONE_IN
    if one == other:
        return True
    if not most or abs(len(one) - len(other)) > most or _apart(Counter(one), Counter(other)) > most:
        return False
    return _distance(one, other) <= most


def overlaps(prompts: Iterable[str], benchmark: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each prompt that equals one of the benchmark or is near to it, with that one."""
    known: dict[int, dict[Words, str]] = {}
    for text in benchmark:
        words = words_of(text)
        known.setdefault(len(words), {}).setdefault(words, text)
    for prompt in prompts:
        words = words_of(prompt)
        reach = len(words) // ONE_IN
        nearby = (known.get(length, {}) for length in range(len(words) - reach, len(words) + reach + 1))
        found = next((text for table in nearby for other, text in table.items() if near(words, other)), None)
        if found is not None:
            yield prompt, found


def refuse_overlaps(prompts: Iterable[str], files: Sequence[Path]) -> None:
    """Raise BadInput if one of the prompts equals one of the benchmarks' in these files, or is near to it."""
    for path in files:
        found = list(overlaps(prompts, read_benchmark(path)))
        if found:
            prompt, known = found[0]
            raise BadInput(
                f"{len(found)} briefs of the training data are those of the benchmark {path.name}, such as {prompt!r:.100} "
                f"({known!r:.100} there); leave them out, or what was trained cannot be measured by it"
            )


def _apart(one: Counter[str], other: Counter[str]) -> int:
    """Return the least number of changes between texts of these words in any order."""
    return max((one - other).total(), (other - one).total())


def _distance(one: Words, other: Words) -> int:
    """Return how many words have to be put in, left out or replaced."""
    row = list(range(len(other) + 1))
    for place, word in enumerate(one, 1):
        before, row = row, [place]
        for at, target in enumerate(other, 1):
            row.append(min(before[at] + 1, row[-1] + 1, before[at - 1] + (word != target)))
    return row[-1]
