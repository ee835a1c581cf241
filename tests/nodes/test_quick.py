"""CLVR Quick: which files it finds by their names, what it says of those that are missing, and the nodes it becomes."""

from __future__ import annotations

import pytest
from clvr_pack.nodes.quick.families import FAMILIES, VLM, family_of, fits
from clvr_pack.nodes.quick.files import choose, unknown_file

from clvr_core.errors import BadInput
from tests.nodes.graph import Executing, Graph
from tests.nodes.pack import NODES, stubs

GB = 10**9
MANAGEMENT = stubs["comfy.model_management"]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Puts empty files of these sizes into ComfyUI's model folders."""
    monkeypatch.setattr(stubs["folder_paths"], "base", tmp_path)
    monkeypatch.setattr(MANAGEMENT, "total_memory", 24 * GB)

    def put(*paths: str, size: float = 1) -> None:
        for path in paths:
            file = tmp_path / "models" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as opened:
                opened.truncate(int(size * GB))  # sparse

    return put


KLEIN = ("diffusion_models/flux-2-klein-4b-fp8.safetensors", "vae/flux2-vae.safetensors")
ENCODER, JUDGE = "text_encoders/qwen_3_4b.safetensors", "text_encoders/qwen3vl_4b_fp8_scaled.safetensors"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.title)
def test_each_family_knows_its_own_files_and_no_other_familys(family):
    assert family_of(family.model.file.name) is family
    for part in (family.model, family.encoder, family.vae, VLM):
        for file in (part.file, part.small):
            assert file is None or any(fits(pattern, file.name) for pattern in part.names)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("flux-2-klein-4b.safetensors", "klein"),
        ("Flux2/Klein-9B-fp8.safetensors", "klein"),
        ("my klein merge.safetensors", "klein"),
        ("flux-2-klein-base-9b.safetensors", "klein-base"),
        ("flux-2-klein-9b-kv.safetensors", "klein-kv"),
        ("flux3-image-klein-base-bf16.safetensors", "flux3-klein-base"),
        ("qwen_image_edit_2509_fp8_e4m3fn.safetensors", "qwen-edit"),
        ("qwen_image_2.1_bf16.safetensors", "qwen-image-2.1"),
        ("z_image_turbo_int8_convrot.safetensors", "z-image-turbo"),
        ("z_image_bf16.safetensors", "z-image"),
        ("qwen_image_2512_fp8_e4m3fn.safetensors", None),
        ("z_image_omni.safetensors", None),
        ("wan2.2_t2v.safetensors", None),
    ],
)
def test_a_family_is_told_by_the_name_of_the_file(name, recipe):
    family = family_of(name)
    assert (family and family.recipe) == recipe


class TestChoosing:
    def test_files_are_found_by_their_names(self, models):
        models(*KLEIN, ENCODER, JUDGE, "vae/ae.safetensors", "text_encoders/t5xxl.safetensors")
        choice = choose({})
        assert choice.family.title == "FLUX.2 Klein 4B" and choice.recipe == "klein" and not choice.complaint
        assert choice.files == {
            "model": "flux-2-klein-4b-fp8.safetensors",
            "text_encoder": "qwen_3_4b.safetensors",
            "vae": "flux2-vae.safetensors",
            "vlm": "qwen3vl_4b_fp8_scaled.safetensors",
        }

    @pytest.mark.parametrize(
        ("memory", "encoder"), [(24, "qwen_3_4b"), (12, "qwen_3_4b_fp8_mixed"), (8, "qwen_3_4b_fp8_mixed")]
    )
    def test_a_small_card_gets_the_8_bit_text_encoder(self, models, monkeypatch, memory, encoder):
        monkeypatch.setattr(MANAGEMENT, "total_memory", memory * GB)
        models(*KLEIN, JUDGE)
        models(ENCODER, size=8)
        models("text_encoders/qwen_3_4b_fp8_mixed.safetensors", size=5.6)
        assert choose({}).files["text_encoder"] == f"{encoder}.safetensors"

    def test_what_is_missing_is_named_with_its_size_its_link_and_its_folder(self, models):
        models(*KLEIN)
        words = choose({}).complaint
        assert words.startswith(
            "FLUX.2 Klein 4B needs files that are not here: qwen_3_4b.safetensors (8.0 GB) from https://"
        )
        for part in (FAMILIES[0].encoder, VLM):
            assert part.file.link in words and f"models/{part.folder}" in words
        assert "on a card of 8 to 12 GB qwen_3_4b_fp8_mixed.safetensors (5.6 GB)" in words
        assert FAMILIES[0].vae.file.name not in words

    def test_a_recipe_that_the_artist_chose_is_kept(self, models):
        models("diffusion_models/mine.safetensors", KLEIN[1], ENCODER, JUDGE)
        choice = choose({"model": "mine.safetensors", "recipe": "klein-base"})
        assert choice.recipe == "klein-base" and not choice.complaint and choice.files["model"] == "mine.safetensors"
        with pytest.raises(BadInput, match=r"model is 'mine.safetensors', whose name tells no family"):
            choose({"model": "mine.safetensors"})

    def test_a_family_that_this_comfyui_cannot_load_asks_for_an_update(self, models):
        models("diffusion_models/flux3-image-klein-int8-convrot.safetensors")
        assert "FLUX.3 Klein needs a newer ComfyUI" in choose({}).complaint

    def test_a_file_that_is_gone_is_named_with_its_link(self, models):
        models(*KLEIN)
        assert not unknown_file("model", "flux-2-klein-4b-fp8.safetensors") and not unknown_file("vae", "auto")
        words = unknown_file("vlm", VLM.file.name)
        assert "which is not in models/text_encoders" in words and VLM.file.link in words
        assert "https" not in unknown_file("vae", "../flux2-vae.safetensors.exe")
        judged = NODES["CLVR_Quick"].validate_inputs(prompt="a cat", vlm=VLM.file.name)
        assert judged == words
        assert NODES["CLVR_Quick"].validate_inputs(prompt=" ", vlm="auto").startswith("prompt is empty")


def become(**inputs) -> dict[str, dict]:
    """The nodes that CLVR Quick becomes, by their class types; of Load CLIP by its type of file."""
    with Executing(Graph({}), "1"):
        output = NODES["CLVR_Quick"].execute(**({"prompt": "a red circle"} | inputs))
    assert len(output.args) == 3 and all(node["class_type"] for node in output.expand.values())
    return {node["class_type"] + (node["inputs"].get("type") or ""): node["inputs"] for node in output.expand.values()}


class TestBecoming:
    def test_it_is_comfyuis_loaders_and_this_packs_nodes(self, models):
        models(*KLEIN, ENCODER, JUDGE)
        made = become(prompt="a fox", width=768, height=512, seed=5, rounds=2, strategy="director", review=30)
        assert made["UNETLoader"]["unet_name"] == "flux-2-klein-4b-fp8.safetensors"
        assert made["CLIPLoaderflux2"]["clip_name"] == "qwen_3_4b.safetensors"
        assert made["CLIPLoaderstable_diffusion"]["clip_name"] == "qwen3vl_4b_fp8_scaled.safetensors"
        executor, generate = made["CLVR_Executor"], made["CLVR_Generate"]
        assert (executor["recipe"], executor["width"], executor["height"]) == ("klein", 768, 512)
        assert (generate["prompt"], generate["seed"], generate["rounds"]) == ("a fox", 5, 2)
        assert (generate["strategy"], generate["review"]) == ("director", 30)

    def test_with_no_diffusion_model_it_draws_with_the_embedded_ones(self, models):
        models(ENCODER, JUDGE)
        assert set(become()) == {"CLVR_ShapesModels", "CLVR_Generate"}
        with pytest.raises(BadInput) as refused:
            become(prompt="a portrait of a queen in oil")
        words = str(refused.value)
        assert "NOUN" in words and FAMILIES[0].model.file.link in words and VLM.file.link in words

    def test_the_embedded_ones_may_be_chosen_beside_others(self, models):
        models(*KLEIN, ENCODER, JUDGE)
        assert "CLVR_ShapesModels" in become(model="embedded (no download)")

    def test_a_missing_file_stops_it_before_anything_is_loaded(self, models):
        models(*KLEIN)
        with pytest.raises(BadInput, match="needs files that are not here"):
            become()

    def test_a_file_that_came_makes_it_run_again(self, models):
        models(*KLEIN)
        before = NODES["CLVR_Quick"].fingerprint_inputs(prompt="x")
        assert NODES["CLVR_Quick"].fingerprint_inputs(prompt="x") == before
        models(ENCODER)
        assert NODES["CLVR_Quick"].fingerprint_inputs(prompt="x") != before

    def test_each_of_its_choices_is_one_of_the_nodes_behind_it(self, models):
        """So that no value of a widget is refused only later."""
        mine = {each.id: each.options for each in NODES["CLVR_Quick"].define_schema().inputs}
        executor = {each.id: each.options for each in NODES["CLVR_Executor"].define_schema().inputs}
        generate = {each.id: each.options for each in NODES["CLVR_Generate"].define_schema().inputs}
        assert set(mine["recipe"]["options"]) - {"auto"} <= set(executor["recipe"]["options"])
        assert mine["strategy"]["options"] == generate["strategy"]["options"]
        assert {family.recipe for family in FAMILIES} | {"auto"} == set(mine["recipe"]["options"])
