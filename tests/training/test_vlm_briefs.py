"""Questions about briefs and rows of words by chance, from which copying is learnt."""

from __future__ import annotations

import random
from collections import Counter

from clvr_core.stickers.grammar import parse
from clvr_core.stickers.phrases import goal_words
from clvr_core.training.vlm_batches import Writer
from clvr_core.training.vlm_briefs import AGAIN, ASK, MOST, ROW, by_brief, repeated
from clvr_core.training.vlm_model import FOLDER
from clvr_core.training.vlm_questions import Asked


def test_a_question_about_a_brief_is_answered_by_its_goals_in_their_order():
    rng, signs = random.Random(3), 0
    for _ in range(200):
        question, answer = by_brief(rng)
        spec = parse(question.removeprefix(ASK).strip())
        assert answer.split("; ") == [goal_words(statement) for statement in spec.statements]
        assert sum(item.count for item in spec.items) <= MOST
        signs += any(item.word for item in spec.items)
    assert 60 < signs < 160, "words are what is hard to copy"


def test_parts_of_a_row_come_again_and_all_but_their_first_token_can_be_foretold():
    rng, tokens = random.Random(4), list(range(100))
    for _ in range(50):
        made, spans = repeated(rng, tokens)
        row = made[: spans[0][0] - 1]
        assert max(Counter(row).values()) == 1 and ROW[0] <= len(row) <= ROW[1]
        assert spans[-1][1] == len(made) >= 2 * len(row)
        for first, end in spans:
            at = row.index(made[first - 1])
            assert made[first - 1 : end] == row[at : at + end - first + 1]
            assert end - first + 1 <= AGAIN[1]
    few, _ = repeated(rng, tokens[:9])
    assert set(few) <= set(tokens[:9]), "a row is never longer than there are tokens"


def test_rows_that_come_again_are_read_beside_the_questions():
    writer, rng = Writer(FOLDER / "tokenizer.json"), random.Random(5)
    assert [writer.words.decode([each]) for each in writer.letters] == sorted("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert not {writer.image, writer.pad, *writer.end} & set(writer.plain) and len(writer.plain) > 1000
    rows = [repeated(rng, tokens) for tokens in (writer.letters, writer.plain)]
    batch = writer.batch(Asked([], {}, []), packed=4, repeats=rows)
    targets = [int(each) for packed in batch.packed for each in packed.target]
    wanted = [token for made, spans in rows for first, end in spans for token in made[first:end]]
    assert Counter(targets) == Counter(wanted)
    assert all((packed.slots < 0).all() and (packed.kind == -1).all() for packed in batch.packed)
