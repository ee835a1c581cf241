"""GenEval's rules on made-up boxes, and the pipelines of transformers with tiny random models of the real classes."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.detector import MOST, Detection, Detector, crop, kept, load_detector, relations, verdict
from clvr_core.evaluation.score import BoxJudge
from tests.evaluation.folders import geneval
from tests.fakes import grey


def box(name, left=0, top=0, side=10, score=0.95):
    return Detection(name, (left, top, left + side, top + side), score)


def colors(*named):
    left = list(named)
    return lambda found: [left.pop(0) for _ in found]


def never(found):
    raise AssertionError("no colour is asked for")


def holds(record, found, color_of=never, exact=False):
    return verdict(record, found, color_of, exact)


ONE_DOG = {"tag": "single_object", "include": [{"class": "dog", "count": 1}]}


class TestCounts:
    def test_at_least_as_many_pass_and_exactly_as_many_by_the_stricter_reading(self):
        two = [box("dog"), box("dog", 50)]
        assert holds(ONE_DOG, two)[0] and not holds(ONE_DOG, two, exact=True)[0]
        assert holds(ONE_DOG, [box("cat")]) == (False, ["0 dog, 1 wanted"])

    def test_one_more_is_wrong_if_it_is_excluded(self):
        record = {**ONE_DOG, "exclude": [{"class": "dog", "count": 2}]}
        assert holds(record, [box("dog")])[0]
        assert holds(record, [box("dog"), box("dog", 50)]) == (False, ["2 dog, fewer than 2 wanted"])

    def test_a_box_must_be_surer_where_things_are_counted(self):
        unsure = [box("dog", score=0.6)]
        assert holds(ONE_DOG, unsure)[0] and not holds({**ONE_DOG, "tag": "counting"}, unsure)[0]

    @pytest.mark.parametrize("score, counts", [(0.3, False), (0.31, True)])
    def test_the_threshold_itself_does_not_count(self, score, counts):
        assert holds(ONE_DOG, [box("dog", score=score)])[0] is counts

    def test_at_most_sixteen_are_kept_the_surest_first(self):
        many = [box("dog", place, score=0.5 + place / 100) for place in range(20)]
        found = kept(many, counting=False)["dog"]
        assert len(found) == MOST and found[0].score == pytest.approx(0.69)


RED_CAR = {"tag": "colors", "include": [{"class": "car", "count": 1, "color": "red"}]}


class TestColors:
    def test_only_the_surest_box_is_looked_at(self):
        cars = [box("car", score=0.5), box("car", 50, score=0.9)]
        assert holds(RED_CAR, cars, colors("red"))[0]
        assert holds(RED_CAR, cars, colors("blue")) == (False, ["car blue, red wanted"])

    def test_all_of_several_must_have_it(self):
        record = {"tag": "color_attr", "include": [{"class": "car", "count": 2, "color": "red"}]}
        assert not holds(record, [box("car"), box("car", 50)], colors("red", "blue"))[0]
        assert holds(record, [box("car"), box("car", 50)], colors("red", "red"))[0]

    def test_the_crop_is_grey_where_the_mask_is_not(self):
        mask = np.zeros((8, 8), bool)
        mask[2:4, 2:4] = True
        cut = crop(grey(10), Detection("car", (1, 1, 5, 5), 1.0, mask))
        assert cut.shape == (4, 4, 3) and (cut[1:3, 1:3] == 10).all() and (cut[0] == 0x99).all()

    @pytest.mark.parametrize("edges", [(-5, -5, 3, 3), (7.9, 7.9, 20, 20), (3, 3, 3, 3), (50, 50, 60, 60)])
    def test_a_box_over_the_edge_still_gives_a_picture(self, edges):
        assert 0 not in crop(grey(), Detection("car", edges, 1.0)).shape


RIGHT_CAT = {
    "tag": "position",
    "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["right of", 0]}],
}


class TestPositions:
    def test_is_of_the_centres(self):
        assert holds(RIGHT_CAT, [box("dog", 0), box("cat", 50)])[0]
        assert holds(RIGHT_CAT, [box("dog", 50), box("cat", 0)]) == (False, ["cat left of, right of wanted"])

    def test_within_a_tenth_of_the_sides_there_is_none(self):
        # Sides 10 and 10: up to 2 pixels apart is level.
        assert relations((2, 0, 12, 10), (0, 0, 10, 10)) == set()
        assert relations((5, 0, 15, 10), (0, 0, 10, 10)) == {"right of"}

    def test_what_is_left_over_the_margin_is_held_against_the_whole_distance(self):
        # 3 apart, of which the margin takes 2: a cosine of 1/3.
        assert relations((3, 0, 13, 10), (0, 0, 10, 10)) == set()

    @pytest.mark.parametrize(
        "x, y, seen",
        [(40, 40, {"right of", "below"}), (-40, 0, {"left of"}), (0, -40, {"above"}), (40, 12, {"right of"})],
    )
    def test_a_slant_is_both_if_neither_is_small(self, x, y, seen):
        assert relations((x, y, x + 10, y + 10), (0, 0, 10, 10)) == seen

    def test_without_its_target_it_cannot_hold(self):
        assert holds(RIGHT_CAT, [box("cat", 50)])[1] == ["0 dog, 1 wanted", "nothing for the cat to be right of"]

    def test_only_the_surest_are_placed(self):
        found = [box("dog", 40), box("cat", 90, score=0.9), box("cat", 0, score=0.5)]
        assert holds(RIGHT_CAT, found)[0], "the second cat stands wrong and is not looked at"


def test_a_clause_without_its_colour_is_no_target():
    record = {
        "tag": "color_attr",
        "include": [
            {"class": "dog", "count": 1, "color": "red"},
            {"class": "cat", "count": 1, "position": ["right of", 0]},
        ],
    }
    assert holds(record, [box("dog"), box("cat", 50)], colors("blue"))[1] == [
        "dog blue, red wanted",
        "nothing for the cat to be right of",
    ]


class TestThePipelines:
    def test_boxes_and_masks_are_read(self):
        mask = np.zeros((8, 8), np.uint8)
        mask[2:5, 3:7] = 255
        boxes = Detector(
            "d",
            lambda image, names: [{"label": "dog", "score": 0.9, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}],
        )
        masks = Detector(
            "m",
            lambda image, names: [
                {"label": "cat", "score": 0.8, "mask": mask},
                {"label": "x", "score": 1, "mask": 0 * mask},
            ],
        )
        assert boxes.found(grey())[0].box == (1, 2, 3, 4)
        (found,) = masks.found(grey())
        assert found.box == (3, 2, 7, 5) and found.mask.sum() == 12

    def test_colours_without_a_model_are_refused_in_words(self):
        with pytest.raises(BadInput, match="--color-model"):
            Detector("d", lambda image, names: []).color_of(grey())([box("car")])

    def test_the_surest_colour_is_taken(self):
        def ranked(image, candidate_labels):
            return [{"label": label, "score": float("blue car" in label)} for label in candidate_labels]

        assert Detector("d", None, ranked).color_of(grey())([box("car"), box("car")]) == ["blue", "blue"]

    def test_a_judge_of_boxes_answers_both_readings(self, tmp_path):
        items = BENCHMARKS["geneval"].read(geneval(tmp_path))
        two = [{"label": "cat", "score": 0.99, "box": {"xmin": x, "ymin": 0, "xmax": x + 3, "ymax": 3}} for x in (0, 5)]
        judged = BoxJudge(Detector("d", lambda image, names: two)).look(items[0], [grey()])
        assert judged.answers == {"0": 1.0, "0-exactly": 0.0} and "2 cat" in judged.reasons["0"]


class TestRealClasses:
    """Random weights of the real classes, through transformers' own pipelines."""

    @staticmethod
    def judged(folder, tmp_path):
        items = BENCHMARKS["geneval"].read(geneval(tmp_path / "data"))
        return BoxJudge(load_detector(folder)), items[0]

    def test_a_detector_of_boxes(self, tmp_path):
        from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "num_detection_tokens": 5,
        }
        config = YolosConfig(
            image_size=[32, 32],
            patch_size=16,
            id2label={0: "cat", 1: "car"},
            label2id={"cat": 0, "car": 1},
            **sizes,
        )
        YolosForObjectDetection(config).save_pretrained(tmp_path / "yolos")
        YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 32}).save_pretrained(tmp_path / "yolos")
        judge, item = self.judged(tmp_path / "yolos", tmp_path)
        found = judge.detector.found(grey(128, 32, 32))
        assert (
            len(found) == 5
            and {one.name for one in found} <= {"cat", "car"}
            and all(0 <= one.score <= 1 for one in found)
        )
        assert set(judge.look(item, [grey(128, 32, 32)]).answers.values()) <= {0.0, 1.0}
        assert judge.name == "detector YolosForObjectDetection in yolos"

    def test_what_is_no_detector_is_refused(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        for folder in (tmp_path, tmp_path / "gone"):
            with pytest.raises(BadInput, match="give the folder of a transformers model"):
                load_detector(folder)
