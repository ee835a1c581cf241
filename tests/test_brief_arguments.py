"""The brief that the flags of the command line make."""

from __future__ import annotations

import argparse

import pytest

from clvr_core.brief_arguments import add_brief_arguments, brief_of


def brief(*words: str):
    parser = argparse.ArgumentParser()
    add_brief_arguments(parser)
    return brief_of(parser.parse_args(words), "a cat")


@pytest.mark.parametrize(("words", "guided"), [((), True), (("--guided",), True), (("--no-guided",), False)])
def test_a_run_is_guided_unless_that_is_switched_off(words, guided):
    assert brief(*words).guided is guided
