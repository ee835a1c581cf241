from __future__ import annotations

import pytest
import torch

from clvr_core import world as worlds
from clvr_core.world import EMBEDDED
from tests.training.world import WORLD, data_set, tiny_weights


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return tiny_weights(tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(scope="module")
def oracle_world():
    """The embedded world is drawn and read by the tests' oracle, so that neither art nor reader is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(worlds._MAKE, EMBEDDED, lambda: WORLD)
        yield


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("rows") / "data")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
