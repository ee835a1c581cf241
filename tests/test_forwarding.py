"""Wrappers have the protocols of the model inside them."""

from __future__ import annotations

from typing import Any

import pytest

from clvr_core import protocols
from clvr_core.forwarding import FORWARDED, Forwarder, forwarding
from clvr_core.protocols import Concurrent, Movable, Vlm
from tests.fakes import FakeVlm, grey


class Wrapper(Forwarder):
    def __init__(self, model: Any) -> None:
        self._model = model


class Able(FakeVlm):
    parallel, device = 3, "cpu"

    def move(self, device: str) -> None:
        self.device = device


def test_every_protocol_of_a_model_has_a_forwarder():
    named = {
        each
        for each in vars(protocols).values()
        if getattr(each, "_is_protocol", False) and each.__module__ == protocols.__name__
    }
    assert named == FORWARDED.keys()


def test_a_wrapper_has_what_its_model_has_and_no_more():
    able, plain = (forwarding(model, Wrapper)(model) for model in (Able([], [[0.5]]), FakeVlm()))
    assert [isinstance(able, each) for each in (Vlm, Concurrent, Movable)] == [True] * 3
    assert [isinstance(plain, each) for each in (Vlm, Concurrent, Movable)] == [True, False, False]
    able.move("meta")
    assert (able.parallel, able._model.device, able.name) == (3, "meta", "fake-vlm")
    assert able.decide((grey(),), [protocols.Question("Is it?")])[0].yes == 0.5


def test_what_is_to_be_left_out_is_left_out():
    model = Able()
    assert not isinstance(forwarding(model, Wrapper, without=(Concurrent,))(model), Concurrent)


def test_wrappers_of_equal_models_share_a_class():
    assert forwarding(Able(), Wrapper) is forwarding(Able(), Wrapper) is not forwarding(FakeVlm(), Wrapper)


def test_members_of_the_wrapper_come_first():
    class Named(Wrapper):
        @property
        def name(self) -> str:
            return "mine"

    model = FakeVlm()
    wrapped = forwarding(model, Named)(model)
    assert wrapped.name == "mine"
    with pytest.raises(AttributeError):
        _ = wrapped.parallel
