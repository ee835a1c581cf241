"""Every executor of the core, one entry each.

A new executor adds its entry to EXECUTORS and passes test_executors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import pytest
from diffusers.pipelines.flux import pipeline_flux_kontext
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from clvr_core.executor.generic import GenericExecutor
from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.executor.masks import within_mask
from clvr_core.executor.qwen import QwenEditExecutor
from clvr_core.executor.remote import ImageServer, RemoteExecutor
from clvr_core.models.device_sharing import Turns, with_device_lock
from clvr_core.protocols import DrawRequest, Executor, Picture
from clvr_core.world import world_named
from tests.executor import tiny
from tests.executor.images import drawing, serving_images
from tests.executor.test_klein import RECIPE
from tests.executor.test_klein import tiny as klein_pipeline
from tests.fakes import FakeExecutor, grey
from tests.stickers.oracle import CANVAS, OracleExecutor
from tests.training.world import tiny_weights


@dataclass(frozen=True)
class Case:
    """An executor, and what the tests need to know beside its protocols.

    side: of the pictures it draws, in pixels.
    network: the module that is called once for each evaluation and sample; None if there is none in this process.
    reads: whether other words and other references give another picture.
    spare: tokens of the window that a tiny tokenizer spends on the chat template, of which the pipeline expects less.
    """

    executor: Executor
    side: int = 96
    network: Any = None
    reads: bool = True
    spare: int = 0

    def request(self, seed: int = 1, **fields: Any) -> DrawRequest:
        words = {"prompt": "a large red circle at the top left", "width": self.side, "height": self.side}
        return DrawRequest(seed=seed, **(words | fields))

    def edit(self, *references: Picture, seed: int = 1, **fields: Any) -> DrawRequest:
        words = {"prompt": "remove the object at the top left"}
        return self.request(seed, references=references, **(words | fields))


def _klein(pipe: Any = None, **recipe: Any) -> Case:
    executor = KleinExecutor(pipe or klein_pipeline(), replace(RECIPE, **recipe))
    return Case(executor, network=executor.pipe.transformer)


@contextmanager
def klein() -> Iterator[Case]:
    yield _klein()


@contextmanager
def klein_latents() -> Iterator[Case]:
    """As FLUX.2 Klein is published: canvases go back in as latents, and a mask holds while denoising."""
    yield _klein(given_latents=True, inpaint=True)


@contextmanager
def klein_kv() -> Iterator[Case]:
    yield _klein(diffusers.Flux2KleinKVPipeline(**klein_pipeline().components))


@contextmanager
def embedded() -> Iterator[Case]:
    """As the embedded world's weights are loaded, with small random ones."""
    with TemporaryDirectory() as folder:
        executor = world_named().load_executor(tiny_weights(Path(folder) / "weights"))
        executor.recipe = replace(executor.recipe, generate=Sampling(2, 2.0), edit=Sampling(2))
        yield Case(executor, CANVAS, executor.pipe.transformer)


@contextmanager
def generic() -> Iterator[Case]:
    if not hasattr(diffusers, "QwenImage21Pipeline"):
        pytest.skip("this diffusers has no Qwen-Image-2.1")
    pipe = tiny.qwen21()
    yield Case(GenericExecutor(pipe, steps=2), 64, pipe.transformer)


@contextmanager
def kontext() -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", [(64, 64)])
        pipe = tiny.kontext()
        yield Case(GenericExecutor(pipe, steps=2, references=1), 64, pipe.transformer)


@contextmanager
def qwen_edit() -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONDITION_IMAGE_SIZE", "VAE_IMAGE_SIZE"):
            patch.setattr(pipeline_qwenimage_edit_plus, name, 64 * 64)
        pipe = tiny.edit_plus()
        yield Case(QwenEditExecutor(pipe, steps=2), 64, pipe.transformer, spare=256)


@contextmanager
def remote() -> Iterator[Case]:
    with serving_images(drawing(KleinExecutor(klein_pipeline(), RECIPE))) as server:
        yield Case(RemoteExecutor(ImageServer(server.url, retries=0)))


@contextmanager
def locked() -> Iterator[Case]:
    case = _klein()
    yield replace(case, executor=with_device_lock(case.executor, Turns("cpu"), "executor"))


@contextmanager
def fake() -> Iterator[Case]:
    yield Case(FakeExecutor(_grey), 8, reads=False)


def _grey(request: DrawRequest) -> Picture:
    return within_mask(request, grey(request.seed % 256, request.width, request.height))


@contextmanager
def oracle() -> Iterator[Case]:
    """Draws scenes, so noise in a reference is not there for it."""
    yield Case(OracleExecutor(), CANVAS, reads=False)


EXECUTORS: dict[str, Callable[[], AbstractContextManager[Case]]] = {
    "klein": klein,
    "klein with latents": klein_latents,
    "klein kv": klein_kv,
    "embedded": embedded,
    "generic": generic,
    "generic, one reference": kontext,
    "qwen-edit": qwen_edit,
    "image server": remote,
    "behind a device lock": locked,
    "fake": fake,
    "oracle": oracle,
}
