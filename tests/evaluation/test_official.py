"""Result files as the official scripts write them, and what is odd about them."""

from __future__ import annotations

import json

import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.score import keep_official
from clvr_core.evaluation.store import Arm
from tests.evaluation.folders import GENEVAL, MAKERS, write_lines, write_list


class Official:
    def __init__(self, name, tmp_path):
        self.bench, self.data = BENCHMARKS[name], MAKERS[name](tmp_path / "data")
        self.items, self.path, self.arm = (
            self.bench.read(self.data),
            tmp_path / "out.json",
            Arm(tmp_path / "images", "theirs"),
        )

    def result(self):
        return keep_official(self.bench, self.data, self.arm, self.items, self.path).result


def values(result):
    return {name: measure["value"] for name, measure in result["measures"].items()}


def geneval_lines(correct, details="{}"):
    return [
        {
            "filename": f"some/where/{item:05d}/samples/{k:05d}.png",
            "tag": GENEVAL[item]["tag"],
            "prompt": GENEVAL[item]["prompt"],
            "correct": correct(item, k),
            "reason": "",
            "metadata": "{}",
            "details": details,
        }
        for item in range(4)
        for k in range(4)
    ]


def test_geneval_is_its_own_number_and_says_so(tmp_path):
    official = Official("geneval", tmp_path)
    write_lines(official.path, geneval_lines(lambda item, k: k <= item))
    result = official.result()
    assert (
        values(result)["overall"] == pytest.approx((1 + 2 + 3 + 4) / 16)
        and values(result)["prompts met by any picture"] == 1.0
    )
    assert result["title"] == "GenEval" and "own script" in result["protocol"] and len(result["file_sha256"]) == 64


def test_geneval_counts_the_boxes_that_its_script_writes_down_for_the_stricter_reading(tmp_path):
    official = Official("geneval", tmp_path)
    write_lines(official.path, geneval_lines(lambda item, k: True, json.dumps({"cat": [[0] * 5, [1] * 5]})))
    found = values(official.result())
    # Two cats where one was asked for, in two of the four tasks.
    assert (found["overall"], found["overall, no more than asked for"]) == (1.0, 0.5)


def test_geneval_of_other_data_is_refused(tmp_path):
    official = Official("geneval", tmp_path)
    lines = geneval_lines(lambda item, k: True)
    lines[5]["prompt"] = "another prompt"
    write_lines(official.path, lines)
    with pytest.raises(BadInput, match="line 6: the prompt of item 00001 is 'another prompt'"):
        official.result()


def test_a_picture_told_of_twice_stands_as_it_was_told_first(tmp_path):
    official = Official("geneval", tmp_path)
    lines = geneval_lines(lambda item, k: True)
    write_lines(official.path, [*lines, {**lines[0], "correct": False}])
    result = official.result()
    assert values(result)["overall"] == 1.0 and any("a second time" in warning for warning in result["warnings"])


def test_geneval_plus_has_its_missing_pictures_and_silent_judges_beside_the_wrong_ones(tmp_path):
    official = Official("geneval++", tmp_path)
    results = [{"correct": 1}, {"correct": -1, "reason": "retries"}, {"correct": 0, "reason": "Image not found"}]
    listed = [{"id": number, "tag": "t", "prompt": "p", "result": result} for number, result in enumerate(results, 1)]
    write_list(official.path, {"overall_results": listed})
    result = official.result()
    overall = result["measures"]["overall"]
    assert (overall["value"], overall["strict"]) == (1.0, pytest.approx(1 / 3)) and result["pictures"][
        "unanswered"
    ] == 2
    assert "overall, any style" not in result["measures"], "one verdict for all does not tell the style apart"


def test_geneval2_is_a_list_for_each_prompt(tmp_path):
    official = Official("geneval2", tmp_path)
    write_list(official.path, [[1.0, 0.25, 0.25], [0.5]])
    assert values(official.result()) == {
        "Soft-TIFA AM": pytest.approx(0.5),
        "Soft-TIFA GM": pytest.approx((0.0625 ** (1 / 3) + 0.5) / 2),
    }
    for wrong in ([[1.0, 1.0, 1.0]], [[1.0], [1.0]], [[1, 1, 7], [1]], {}):
        write_list(official.path, wrong)
        with pytest.raises(BadInput):
            official.result()


def test_wise_grades_of_999_are_a_judge_that_failed(tmp_path):
    official = Official("wise", tmp_path)
    grades = {"consistency": 2, "realism": 2, "aesthetic_quality": 2}
    lines = [{"prompt_id": int(item.id), "Subcategory": "x", **grades} for item in official.items]
    lines[0] |= dict.fromkeys(grades, 999)
    write_lines(official.path.with_suffix(".jsonl"), lines)
    official.path = official.path.with_suffix(".jsonl")
    result = official.result()
    assert values(result)["WiScore"] == pytest.approx(1.0) and any("999" in warning for warning in result["warnings"])
    assert result["title"] == "WISE"


def test_wise_verified_is_one_score(tmp_path):
    official = Official("wise-verified", tmp_path)
    write_list(
        official.path, [{"prompt_id": int(item.id), "score": int(item.tag == "culture")} for item in official.items]
    )
    assert values(official.result())["overall"] == pytest.approx(0.4)


def test_imaginebench_grades_are_read_from_the_judges_words(tmp_path):
    official = Official("imagine", tmp_path)
    said = "Fantasy Fulfillment: 8\nReason: fine.\n\n**Identity Preservation**: 6\nReason: x\nAesthetic Quality: 10\n"
    write_list(official.path, [{"id": int(item.id), "type": "x", "evaluation": said} for item in official.items])
    assert list(values(official.result()).values()) == pytest.approx([0.8 * 6 + 0.2 * 10] * 3)


def test_imgedit_is_three_lines_or_their_mean(tmp_path):
    official = Official("imgedit", tmp_path)
    write_list(
        official.path, {"10": "Brief: fine\nPrompt Compliance: 5\nVisual Naturalness: 4\nPhysical: 3\n", "11": 2.5}
    )
    assert values(official.result())["overall"] == pytest.approx((4 + 2.5) / 2)


def test_what_is_no_result_is_refused(tmp_path):
    official = Official("imgedit", tmp_path)
    with pytest.raises(BadInput, match="is not there"):
        official.result()
    write_list(official.path, {"99": "x"})
    with pytest.raises(BadInput, match="'99' is in none of the data"):
        official.result()
    other = Official("lgbench", tmp_path / "other")
    with pytest.raises(BadInput, match="result files of lgbench cannot be read"):
        other.result()
