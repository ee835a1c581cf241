"""Every recipe against ComfyUI's own template of that model: steps, guidance, sampler, schedule, shift, patches, size, files.

Templates come with ComfyUI; COMFYUI_TEMPLATES names the folder of newer ones, as those of FLUX.3 Klein and Qwen-Image 2.1 are.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clvr_pack.nodes.executor.recipes import RECIPES
from clvr_pack.nodes.quick.families import FAMILIES, VLM, Family, family_of, fits

from tests.nodes import stock
from tests.nodes.pack import NODES

STOCK = {
    "klein": (
        "image_flux2_klein_text_to_image",
        "image_flux2_klein_image_edit_4b_distilled",
        "image_flux2_klein_image_edit_9b_distilled",
    ),
    "klein-base": (
        "image_flux2_klein_text_to_image",
        "image_flux2_text_to_image_9b",
        "image_flux2_klein_image_edit_4b_base",
        "image_flux2_klein_image_edit_9b_base",
    ),
    "klein-kv": ("image_flux2_klein_9b_kv_image_edit",),
    "qwen-edit": ("image_qwen_image_edit_2511", "image_qwen_image_edit_2511_int8"),
    "flux3-klein": ("image_flux3_klein_distilled_t2i", "image_flux3_klein_distilled_image_edit"),
    "flux3-klein-base": ("image_flux3_klein_t2i", "image_flux3_klein_image_edit"),
    "qwen-image-2.1": ("image_qwen_image_2_1_t2i", "image_qwen_image_2_1_image_edit"),
    "qwen-image-2.1-turbo": ("image_qwen_image_2_1_turbo_t2i", "image_qwen_image_2_1_turbo_image_edit"),
    "z-image": ("image_z_image", "image_z_image_int8"),
    "z-image-turbo": ("image_z_image_turbo", "image_z_image_turbo_int8"),
}
WITHOUT = {"generic", "z-image-omni"}
"""Recipes of models that ComfyUI has no template for; Z-Image-Omni's is Z-Image's with ComfyUI's own node for its text."""
BY_ITS_NOTE = {"image_flux3_klein_image_edit": "cfg 3.5"}
"""Template whose sampler says guidance 1, beside a note with what its authors advise, which the recipe follows."""
GIB_IN_GB = 1.0737


@pytest.fixture(scope="module")
def templates() -> Path:
    folder = stock.folder()
    if folder is None or not folder.is_dir():
        pytest.skip(
            "no package comfyui-workflow-templates-json here or beside ComfyUI, and COMFYUI_TEMPLATES is not set"
        )
    return folder


def test_every_recipe_has_its_template():
    assert set(RECIPES) == STOCK.keys() | WITHOUT
    assert {family.recipe for family in FAMILIES} == STOCK.keys()


@pytest.mark.parametrize(("recipe", "name"), [(recipe, name) for recipe, names in STOCK.items() for name in names])
def test_a_recipe_samples_as_the_template_does(templates, recipe, name):
    path = templates / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the templates here have no {name}, for {recipe}; set COMFYUI_TEMPLATES to newer ones")
    found = [each for each in stock.samplings(path) if _family(each).recipe == recipe]
    assert found, f"no sampler of {name} draws with a model that is taken for {recipe}"
    for each in found:
        _hold(each, path)


def _family(found: stock.Sampling) -> Family:
    family = family_of(found.model)
    assert family, found.model
    return family


def _hold(found: stock.Sampling, path: Path) -> None:
    family = _family(found)
    recipe = RECIPES[family.recipe]
    guidance = found.cfg
    if note := BY_ITS_NOTE.get(found.template):
        assert guidance == 1 and note in path.read_text(encoding="utf-8")
        guidance = float(note.split()[1])
    levels = tuple(map(float, found.scheduler.split(","))) if "," in found.scheduler else ()
    assert (recipe.steps, recipe.guidance, recipe.sampler) == (found.steps, guidance, found.sampler)
    assert recipe.levels == levels and (levels or recipe.scheduler == found.scheduler) and recipe.shift == found.shift
    assert recipe.norm == ("CFGNorm" in found.kinds) and recipe.patch == "".join({"FluxKVCache"} & found.kinds)
    assert recipe.encoder in found.kinds | {""}
    assert found.size in (None, (1024, 1024)) == (None, _default_size())
    # The files beside it, and the type under which the text encoder is loaded.
    assert family.type == found.type
    assert any(fits(pattern, found.encoder) for pattern in family.encoder.names)
    assert any(fits(pattern, found.vae) for pattern in family.vae.names)


def _default_size() -> tuple[int, int]:
    inputs = {each.id: each.options for each in NODES["CLVR_Executor"].define_schema().inputs}
    return inputs["width"]["default"], inputs["height"]["default"]


def test_the_links_and_sizes_of_the_files_are_those_of_the_templates(templates):
    if not (templates / "image_flux3_klein_t2i.json").exists():
        pytest.skip("the templates here are older than FLUX.3 Klein; set COMFYUI_TEMPLATES to newer ones")
    text = "\n".join(path.read_text(encoding="utf-8") for path in templates.glob("*.json"))
    for part in {VLM, *(part for family in FAMILIES for part in (family.model, family.encoder, family.vae))}:
        for file in filter(None, (part.file, part.small)):
            assert f'"{file.link}"' in text or f"({file.link})" in text, file.name
            said = re.findall(rf"\({re.escape(file.link)}\) \(([\d.]+) ([GM])B\)", text)
            sizes = {round(float(number) / (1 if unit == "G" else 1024) * GIB_IN_GB, 1) for number, unit in said}
            assert file.gigabytes is None or file.gigabytes in sizes, (file.name, sizes)
