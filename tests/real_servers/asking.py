"""What the tests of every server ask, and how."""

from __future__ import annotations

import numpy as np

from clvr_core.controller.prompts import GOALS_SCHEMA, action_schema, fused_schema
from clvr_core.http_json import Limits
from clvr_core.protocols import Question
from clvr_core.synthesis.proxy import SCHEMA as PROXY
from clvr_core.vlm.server import Endpoint, ServerVlm

RED, BLUE, GREY = (np.full((96, 96, 3), value, np.uint8) for value in ((220, 30, 30), (30, 60, 220), (128, 128, 128)))
SHOWN = ((), (RED,), (BLUE,), (RED, BLUE), (BLUE, RED), (BLUE, GREY, GREY, RED))
QUESTIONS = (Question("Is the first picture red?"), Question("Is it rather red?"))
SCHEMAS = {
    "goals": GOALS_SCHEMA,
    "action": action_schema(("GENERATE", "EDIT", "VALIDATE", "END"), ["g1", "g2"], [0, 1]),
    "fused": fused_schema(("EDIT", "END"), ["g1", "g2"], [0]),
    "proxy": PROXY,
}


def model(url: str, wait: float = 60.0, **settings) -> ServerVlm:
    return ServerVlm(Endpoint(url, image_side=128, limits=Limits(timeout=600, retries=0, wait=wait), **settings))
