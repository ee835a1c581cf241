"""The JSON Schema of a run is made from the dataclasses, is shipped, and accepts and refuses what the readers accept and refuse."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from clvr_core import schema
from clvr_core.brief import STRATEGIES, Brief, Budget
from clvr_core.records import from_json, to_json
from clvr_core.run.lines import REWIND, DecisionLine, standing
from clvr_core.run.loop import RESULTS
from clvr_core.run.run_folder import BEST, JOURNAL, RunFolder, trajectory_from
from clvr_core.run.session import EVENTS, RunModels, Session, drive
from clvr_core.storage.png import TRAJECTORY_KEY, read_png
from clvr_core.trajectory import Remark, Trajectory
from tests.stickers.oracle import SIZE, OracleExecutor, load_vlm
from tests.test_records import FULL

DATA = Path(__file__).parent / "data"
JOURNALS = sorted(DATA.glob("**/" + JOURNAL))
VLM = load_vlm()
PROMPT = "a red cat at the top left, two blue cars, a large green bird in the bottom row"

DOCUMENT = schema.trajectory_schema()
RECORD = jsonschema.Draft202012Validator(DOCUMENT)
LINE = jsonschema.Draft202012Validator({"$ref": "#/$defs/Line", "$defs": DOCUMENT["$defs"]})


def name_of(path: Path) -> str:
    return path.parent.name


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the journal."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def problems(validator: jsonschema.Draft202012Validator, value: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_the_shipped_file_is_what_the_command_makes():
    assert schema.FILE.read_text("utf-8") == schema.text(), "run: python -m clvr_core.schema"


def test_it_is_a_json_schema():
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)


def test_every_record_of_a_run_is_in_it():
    assert {type(value).__name__ for value in FULL} <= set(DOCUMENT["$defs"])
    for value in FULL:
        properties = DOCUMENT["$defs"][type(value).__name__]["properties"]
        assert list(properties) == [field.name for field in fields(value)]


def test_the_lines_of_decisions_carry_what_the_reader_takes_from_them():
    carried = {name for names in schema.DECISIONS.values() for name in names} | {"warnings", "overhead"}
    assert carried == {field.name for field in fields(DecisionLine)}


@pytest.mark.parametrize("path", JOURNALS, ids=name_of)
def test_every_line_of_every_stored_run_fits(path):
    lines = lines_of(path)
    assert [problem for line in lines for problem in problems(LINE, line)] == []
    run = trajectory_from(standing(lines)[0])
    assert problems(RECORD, json.loads(json.dumps(to_json(run) | {"schema": run.schema}))) == []


@pytest.mark.parametrize("path", sorted(DATA.glob("**/*.png")), ids=lambda path: f"{name_of(path)}-{path.stem}")
def test_every_record_in_a_stored_picture_fits(path):
    record = json.loads(read_png(path)[1][TRAJECTORY_KEY])
    assert problems(RECORD, record) == []


def one_wish(trajectory: Trajectory) -> tuple[Remark, None]:
    wishes = Remark(0, words="a yellow cat", corrected={"g2": "unmet"}), Remark(0, "accept")
    return wishes[min(len(trajectory.steps), 2) - 1], None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fresh_run_fits(strategy, tmp_path):
    brief = Brief(PROMPT, strategy, seed=5, **SIZE, budget=Budget(rounds=4), final_ab=True)
    reviewer = one_wish if strategy == "clvr" else None
    drive(
        Session(brief, RunModels(VLM, OracleExecutor(fault=0.3)), RunFolder.create(tmp_path / "run"), reviewer=reviewer)
    )
    lines = lines_of(tmp_path / "run" / JOURNAL)
    assert [problem for line in lines for problem in problems(LINE, line)] == []
    assert lines[-1]["event"] == "end"
    for picture in (tmp_path / "run").glob("*.png"):
        assert problems(RECORD, json.loads(read_png(picture)[1][TRAJECTORY_KEY])) == [], picture.name
    assert (tmp_path / "run" / BEST).exists()


@pytest.mark.parametrize("value", FULL, ids=lambda value: type(value).__name__)
def test_a_record_with_every_field_set_fits_with_fields_of_later_versions(value):
    definition = {"$ref": f"#/$defs/{type(value).__name__}", "$defs": DOCUMENT["$defs"]}
    data = json.loads(json.dumps(to_json(value))) | {"from a later version": [1, {"x": None}]}
    assert problems(jsonschema.Draft202012Validator(definition), data) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"brief": {}}, "$.brief"),
        ({"brief": {"prompt": " "}}, "$.brief.prompt"),
        ({"brief": {"prompt": "x", "strategy": "best"}}, "$.brief.strategy"),
        ({"brief": {"prompt": "x", "width": 0}}, "$.brief.width"),
        ({"brief": {"prompt": "x", "seed": 2**63}}, "$.brief.seed"),
        ({"brief": {"prompt": "x", "budget": {"rounds": None}}}, "$.brief.budget.rounds"),
        ({"brief": {"prompt": "x", "budget": {"seconds": 0}}}, "$.brief.budget.seconds"),
        ({"goals": [{"id": "g1", "text": "x", "need": "may"}]}, "$.goals[0].need"),
        ({"goals": [{"id": "g1", "text": "x", "area": [0, 0, 1]}]}, "$.goals[0].area"),
        ({"steps": [{"index": 0, "action": {"kind": "PAINT"}}]}, "$.steps[0].action.kind"),
        ({"steps": [{"index": 0}]}, "$.steps[0]"),
        ({"steps": [{"index": True, "action": {"kind": "END"}}]}, "$.steps[0].index"),
        ({"outcome": {"reason": "", "canvas": None}}, "$.outcome"),
        ({"remarks": [{"after": 0, "corrected": {"g1": "unsure"}}]}, "$.remarks[0].corrected.g1"),
        ({"schema": 2}, "$.schema"),
        ({"schema": 0}, "$.schema"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(change, where):
    record = {"brief": {"prompt": "x"}} | change
    found = [error.json_path for error in RECORD.iter_errors(record)]
    # A value that is of none of several types is refused as a whole; the reason lies below it.
    assert [path for path in found if where.startswith(path)], found


@pytest.mark.parametrize(
    "line",
    [
        [],
        {},
        {"event": 3},
        {"event": "start"},
        {"event": "drawn"},
        {"event": "drawn", "result": {}},
        {"event": "rewind", "keep": 0},
        {"event": "end", "outcome": {}},
        {"event": "planned", "gate": None},
        {"event": "review", "result": {"after": 0, "say": "hello"}},
    ],
)
def test_a_line_that_is_wrong_is_refused(line):
    assert problems(LINE, line)


@pytest.mark.parametrize("line", [{"event": "planned"}, {"event": "from a later version", "steps": 3}])
def test_a_line_with_little_in_it_and_one_of_a_later_version_pass(line):
    assert problems(LINE, line) == []


def near(limit: float, name: str) -> list[float]:
    """The limit and its neighbours."""
    step = 0.01 if name in ("met", "unmet") else 1
    return [limit - step, limit, limit + step]


@pytest.mark.parametrize(
    "field", [field for field in schema.RANGES if field not in ("Trajectory.schema", "Brief.prompt")]
)
def test_the_ranges_are_those_that_the_constructors_check(field):
    record, name = field.split(".")
    cls = {"Brief": Brief, "Budget": Budget}[record]
    # The widest place for the other threshold, so that only the range itself is looked at.
    around = {"Brief": {"prompt": "x"}, "Budget": {"met": {"unmet": 0.0}, "unmet": {"met": 1.0}}.get(name, {})}[record]
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{record}", "$defs": DOCUMENT["$defs"]})
    limits = [limit for key, limit in schema.RANGES[field].items() if key != "pattern"]
    for value in [value for limit in limits for value in near(limit, name)]:
        data = {**around, name: value}
        try:
            from_json(cls, data)
        except ValueError:
            assert problems(validator, data), data
        else:
            assert problems(validator, data) == [], data


def test_a_field_of_a_type_without_a_schema_is_an_error():
    @dataclass
    class Odd:
        value: bytes

    with pytest.raises(TypeError, match="bytes"):
        schema._reference(Odd, {})


def test_the_words_for_a_field_are_those_of_the_docstring():
    @dataclass
    class Described:
        """A thing.

        one: the first, of several. two, three: None
          or more.
        """

        one: int
        two: int
        three: int

    assert schema.descriptions(Described) == (
        "A thing.",
        {"one": "the first, of several.", "two": "null or more.", "three": "null or more."},
    )


VALUES = (None, True, 7, 0.5, -1.5, "x", [], {}, [7], ["x"], {"x": 7}, {"x": "x"}, [[]], [{}])
UNCHECKED = ("event", "keep", "by", "models", "prompts", "schema")
"""Fields left out below, since reader and schema differ on them on purpose, or neither looks at them alone.

event: without it a line is none, which tests above say. keep: the reader counts the lines before it. by: the reader compares it, and a
number is merely another node. models, prompts: `trajectory_from` passes them on as they are. schema: `RunFolder.open` checks it.
"""


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths to everything in a line, but for the fields of UNCHECKED."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [place for key, item in inner if key not in UNCHECKED for place in places(item, (*path, key))]
    return [*([path] if path else []), *below]


def mutate(line: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The line with one value replaced by another, mostly of another type, or taken away."""
    line, (*way, last) = copy.deepcopy(line), chance.choice(places(line))
    holder: Any = line
    for key in way:
        holder = holder[key]
    if chance.random() < 0.15:
        del holder[last]
    else:
        holder[last] = copy.deepcopy(chance.choice(VALUES))
    return line


def read(lines: list[dict[str, Any]]) -> None:
    """Reads the journal as a viewer and as a run that goes on do. Raises an error where one of them refuses it."""
    kept, _ = standing(lines)
    results = {event: RESULTS[call] for call, event in EVENTS.items()}
    trajectory = trajectory_from(kept)
    for line in kept:
        if line["event"] in results:
            from_json(results[line["event"]], line.get("result"))
    assert isinstance(trajectory, Trajectory)


def accepted(lines: list[dict[str, Any]]) -> bool:
    try:
        read(lines)
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("path", JOURNALS, ids=name_of)
def test_reader_and_schema_agree_on_damaged_journals(path):
    chance, lines, verdicts = random.Random(path.parent.name), lines_of(path), []
    if any(line["event"] == REWIND for line in lines):
        # What was taken back is never read, so the schema alone looks at it.
        lines = standing(lines)[0]
    for _ in range(150):
        number = chance.randrange(len(lines))
        damaged = mutate(lines[number], chance)
        by_reader = accepted([*lines[:number], damaged, *lines[number + 1 :]])
        assert by_reader == (not problems(LINE, damaged)), (number, damaged, problems(LINE, damaged)[:3])
        verdicts.append(by_reader)
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.9, "mutations of both kinds"


@pytest.mark.parametrize(
    ("line", "reader"),
    [
        ({"brief": {"prompt": "x", "seed": 1.0}}, False),
        ({"brief": {"prompt": "x", "budget": {"met": 0.2, "unmet": 0.3}}}, False),
        ({"brief": {"prompt": "x", "goals": [{"id": "g", "text": ""}, {"id": "g", "text": ""}]}}, False),
        ({"brief": {"prompt": "x"}, "models": {"executor": 7}}, True),
    ],
    ids=["1.0 is an integer of JSON Schema", "met below unmet", "two goals of one id", "models of a journal"],
)
def test_where_reader_and_schema_differ_on_purpose(line, reader):
    line = {"event": "start", **line}
    assert accepted([line]) is reader
    assert (problems(LINE, line) == []) is not reader
