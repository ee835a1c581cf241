"""The grid, the order of the comparisons, the ranking and the early stop. Pure: nothing is drawn, asked or read here.

A round has one seed. Every point of the grid that is left draws each brief once, and every two of these points are
compared on each brief. A comparison is asked in both orders (`verifier.compare`): where the orders disagree it is a tie,
and without an answer it counts for nobody. After a round the lower half leaves, as in successive halving
(arXiv:1502.07943), but no point that is level with the last one that stays and none without an answer.

The standing of a point is its Bradley-Terry strength over all rounds, by the minorisation of Hunter (2004,
doi:10.1214/aos/1079120141, equation 3). A tie counts half a win for each. One tie of each point with an opponent of
strength 1 keeps the strengths finite where a point has won all or lost all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import isfinite

from ..errors import BadInput

MOST_POINTS, MOST_BRIEFS, MOST_SEEDS = 27, 8, 8
LARGEST = 1000.0
"""Of a strength, as in a recipe."""
STEPS, CLOSE = 1000, 1e-12
"""Of the iteration for the strengths: its most steps, and the relative change at which it ends."""
LEVEL = 1e-6
"""Relative difference below which two strengths are level."""


@dataclass(frozen=True, slots=True)
class Strengths:
    """A point of the grid.

    alpha, beta: strengths of the aligned and of the distilled difference.
    lora: factor on the strength of every LoRA.
    """

    alpha: float = 1.0
    beta: float = 1.0
    lora: float = 1.0


@dataclass(frozen=True, slots=True)
class Space:
    """What is tried.

    alphas, betas, lora_factors: the values of each axis, those first that are preferred where the judge sees no difference.
    briefs: prompts of the pictures.
    seeds: of the initial noise, one a round.
    early: whether the lower half leaves after a round; otherwise every point is drawn with every seed.

    Raises BadInput for a grid of less than two points, for more than can be judged, and for values out of range.
    """

    alphas: tuple[float, ...] = (1.0,)
    betas: tuple[float, ...] = (1.0,)
    lora_factors: tuple[float, ...] = (1.0,)
    briefs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1)
    early: bool = True

    def __post_init__(self) -> None:
        for name in ("alphas", "betas", "lora_factors"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise BadInput(f"{_flag(name)} is {list(values)}; give different numbers, such as 0.5,0.75,1")
            if not all(isfinite(value) and abs(value) <= LARGEST for value in values):
                raise BadInput(f"{_flag(name)} is {list(values)}; strengths are numbers between -1000 and 1000")
        if not 2 <= (count := len(self.points)) <= MOST_POINTS:
            raise BadInput(
                f"the grid has {count} point{'s' * (count != 1)}, {len(self.alphas)} x {len(self.betas)} x {len(self.lora_factors)}; "
                f"give 2 to {MOST_POINTS} in all, by --alphas, --betas and --lora-factors"
            )
        for name, most in (("briefs", MOST_BRIEFS), ("seeds", MOST_SEEDS)):
            if not 1 <= (count := len(getattr(self, name))) <= most:
                raise BadInput(f"{_flag(name)} has {count} entries; give 1 to {most}")
        if not all(brief.strip() for brief in self.briefs):
            raise BadInput("--briefs has an empty brief; say in words what the picture should show")

    @property
    def points(self) -> tuple[Strengths, ...]:
        """All points, the preferred ones first: the first value of each axis is that of the first point."""
        return tuple(Strengths(*each) for each in product(self.alphas, self.betas, self.lora_factors))

    def words(self, point: int) -> str:
        """Name a point by its number: its values on the axes that have several."""
        at = self.points[point]
        axes = (
            (self.alphas, f"alpha {at.alpha:g}"),
            (self.betas, f"beta {at.beta:g}"),
            (self.lora_factors, f"LoRA x {at.lora:g}"),
        )
        return ", ".join(said for values, said in axes if len(values) > 1)

    @property
    def most_comparisons(self) -> int:
        """Comparisons if no point leaves early."""
        count = len(self.points)
        return len(self.seeds) * len(self.briefs) * count * (count - 1) // 2


def axis_from(name: str, text: str) -> tuple[float, ...]:
    """Parse the values of an axis: numbers with commas between them. Raises BadInput for other text."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(
            f"{_flag(name)} is {text!r:.80}; give numbers with commas between them, such as 0.5,0.75,1"
        ) from error


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures to compare: of one brief, drawn with the seed of one round, at two points (first < second)."""

    round: int
    brief: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The outcome of a comparison.

    winner: 0 the first point, 1 the second, -1 a tie; None if the judge did not answer in both orders.
    failure: why there is no answer, a sentence; "" otherwise.
    """

    pair: Pair
    winner: int | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a point did.

    point: its number in `Space.points`.
    strength: of Bradley and Terry, 1 for an average point.
    won, tied, lost, unanswered: its comparisons.
    """

    point: int
    strength: float
    won: int = 0
    tied: int = 0
    lost: int = 0
    unanswered: int = 0

    @property
    def answered(self) -> int:
        return self.won + self.tied + self.lost


@dataclass(frozen=True, slots=True)
class Position:
    """Where a search stands.

    round: the round to go on with; the number of rounds if the search is over.
    left: points that are still in it.
    missing: comparisons of the round that were not made yet.
    """

    round: int
    left: tuple[int, ...]
    missing: tuple[Pair, ...]

    @property
    def over(self) -> bool:
        return not self.missing


def position(space: Space, compared: Iterable[Compared]) -> Position:
    """Return what is to be done next, after these comparisons in any order."""
    made = {each.pair: each for each in compared}
    left, asked = tuple(range(len(space.points))), []
    for number in range(len(space.seeds)):
        if len(left) < 2:
            return Position(number, left, ())
        wanted = [Pair(number, brief, *two) for brief in range(len(space.briefs)) for two in combinations(left, 2)]
        if missing := tuple(pair for pair in wanted if pair not in made):
            return Position(number, left, missing)
        asked += [made[pair] for pair in wanted]
        if space.early:
            left = upper_half(left, asked)
    return Position(len(space.seeds), left, ())


def upper_half(left: Sequence[int], compared: Sequence[Compared]) -> tuple[int, ...]:
    """Return the points that stay after a round, in their order: the better half, whoever is level with its last, and
    who has no answer yet."""
    found = {each.point: each for each in rank(left, compared)}
    answered = sorted((each.strength for each in found.values() if each.answered), reverse=True)
    if not answered:
        return tuple(left)
    last = answered[(len(answered) + 1) // 2 - 1]
    return tuple(point for point in left if not found[point].answered or found[point].strength >= last * (1 - LEVEL))


def rank(points: Sequence[int], compared: Iterable[Compared]) -> list[Standing]:
    """Return the standings of these points by the comparisons among them, the best first; of points that are level the
    earlier one of the grid is first."""
    inside = [each for each in compared if {each.pair.first, each.pair.second} <= set(points)]
    wins = dict.fromkeys(points, 0.5)
    met: dict[tuple[int, int], int] = {}
    counts = {point: [0, 0, 0, 0] for point in points}
    for each in inside:
        first, second = each.pair.first, each.pair.second
        if each.winner is None:
            counts[first][3] += 1
            counts[second][3] += 1
            continue
        met[first, second] = met.get((first, second), 0) + 1
        if each.winner == -1:
            wins[first] += 0.5
            wins[second] += 0.5
            counts[first][1] += 1
            counts[second][1] += 1
        else:
            winner, loser = (first, second) if each.winner == 0 else (second, first)
            wins[winner] += 1
            counts[winner][0] += 1
            counts[loser][2] += 1
    strengths = dict.fromkeys(points, 1.0)
    for _ in range(STEPS):
        shares = {point: 1 / (strengths[point] + 1) for point in points}
        for (first, second), times in sorted(met.items()):  # sorted: the sums do not depend on the order
            share = times / (strengths[first] + strengths[second])
            shares[first] += share
            shares[second] += share
        found = {point: wins[point] / shares[point] for point in points}
        change = max(abs(found[point] / strengths[point] - 1) for point in points)
        strengths = found
        if change < CLOSE:
            break
    # Rounded, so that the last bits of the iteration do not decide between points that are level.
    standings = [Standing(point, float(f"{strengths[point]:.6g}"), *counts[point]) for point in points]
    return sorted(standings, key=lambda each: (-each.strength, each.point))


def final_ranking(space: Space, compared: Sequence[Compared]) -> list[Standing]:
    """Return the standings of all points, those first that are left. Each group is ranked by the comparisons that it
    took part in."""
    left = position(space, compared).left
    whole = rank(range(len(space.points)), compared)
    return [each for each in whole if each.point in left] + [each for each in whole if each.point not in left]
