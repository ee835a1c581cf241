"""clvr.toml: what it may say, and a run with the models it names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clvr_core import cli
from clvr_core.errors import BadInput
from clvr_core.executor.klein import Sampling, SamplingRecipe, published
from clvr_core.models.config import Embedded, ExecutorSettings, read_config, read_servers
from clvr_core.models.executors import load_executor
from clvr_core.models.registry import load_models
from clvr_core.run.run_folder import BEST, JOURNAL
from clvr_core.vlm.local import Local, LocalVlm
from clvr_core.world import WORLDS
from tests.executor import small
from tests.vlm.servers import Asked, Said, completion, pictures_in, said_in, serving

WHOLE = """
[controller]
url = "http://127.0.0.1:8000/v1"
model = "qwen3-vl"
key_variable = "MY_KEY"
timeout = 30
retries = 0

[verifier]
url = "https://example.com/v1"

[executor]
folder = "klein"
dtype = "float32"
width = 512
height = 768
"""

EYES = """
[controller]
folder = "eye"
device = "cpu"
dtype = "float32"
image_side = 512
max_tokens = 800
thinking = 64

[executor]
kind = "embedded"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "clvr.toml"
    path.write_text(text)
    return path


def test_a_server_may_have_several_addresses_and_fields_and_headers_of_its_own(tmp_path):
    text = """
[controller]
url = ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]
picture = "png"
extra = {chat_template_kwargs = {enable_thinking = false}}
headers = {X-Team = "TEAM"}
[executor]
url = ["http://127.0.0.1:3/v1", "http://127.0.0.1:4/v1"]
extra = {negative_prompt = "blur"}
headers = {X-Team = "TEAM"}
"""
    config = read_config(written(tmp_path, text))
    endpoint, hand = config.controller.endpoint, config.executor
    assert (hand.urls, hand.extra, hand.headers) == (
        ("http://127.0.0.1:4/v1",),
        {"negative_prompt": "blur"},
        {"X-Team": "TEAM"},
    )
    assert (endpoint.url, endpoint.urls) == ("http://127.0.0.1:1/v1", ("http://127.0.0.1:2/v1",))
    assert endpoint.extra == {"chat_template_kwargs": {"enable_thinking": False}}
    assert (endpoint.headers, endpoint.picture) == ({"X-Team": "TEAM"}, "png")
    with pytest.raises(BadInput, match="server address 'nowhere' is not one"):
        _ = read_config(written(tmp_path, text.replace("http://127.0.0.1:2/v1", "nowhere"))).controller.endpoint


def test_all_that_a_file_may_say_is_read(tmp_path):
    config = read_config(written(tmp_path, WHOLE))
    endpoint = config.controller.endpoint
    assert (endpoint.url, endpoint.model, endpoint.key_variable) == ("http://127.0.0.1:8000/v1", "qwen3-vl", "MY_KEY")
    assert (endpoint.limits.timeout, endpoint.limits.retries) == (30.0, 0)
    assert config.verifier.url == "https://example.com/v1" and config.executor.folder == str(tmp_path / "klein")
    assert (config.executor.kind, config.executor.width, config.executor.height) == ("klein", 512, 768)


def test_a_folder_in_place_of_an_address_is_a_model_that_runs_here(tmp_path):
    config = read_config(written(tmp_path, EYES))
    assert config.controller == Local(str(tmp_path / "eye"), "cpu", "float32", 512, 800, 64) and config.verifier is None
    both = read_config(written(tmp_path, EYES + '[verifier]\nurl = "http://127.0.0.1:8000/v1"\n'))
    assert both.controller.folder and both.verifier.endpoint.url == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "controller is missing"),
        ("[controller", "is not TOML"),
        ("controller = 3", "expected an object, found 3"),
        (WHOLE.replace("timeout", "time_out"), "controller.time_out is not a setting; choose from url, model"),
        (
            WHOLE.replace("[executor]", "[painter]"),
            "painter is not a setting; choose from controller, executor, verifier",
        ),
        (WHOLE.replace("timeout = 30", 'timeout = "long"'), "timeout: expected float, found 'long'"),
        (WHOLE.replace("width = 512", "width = 500"), "width is 500; it must be a multiple of 16"),
        (WHOLE.replace('folder = "klein"', ""), "needs a folder"),
        (
            WHOLE.replace('dtype = "float32"', 'kind = "dall-e"'),
            f"'dall-e' is none of klein, qwen-edit, generic, embedded, {', '.join(WORLDS)}",
        ),
        (WHOLE[: WHOLE.index("[executor]")], "executor is missing"),
        (WHOLE.replace("[verifier]", '[verifier]\nfolder = "eye"'), "verifier has both of url and folder"),
        (WHOLE.replace('url = "https://example.com/v1"', ""), "verifier has neither of url and folder"),
        (
            EYES.replace("thinking = 64", "timeout = 30"),
            "controller.timeout is not a setting; choose from folder, device",
        ),
        (EYES.replace("thinking = 64", "thinking = -1"), "thinking of the model in eye is -1; it must be at least 0"),
        (EYES.replace('dtype = "float32"', 'dtype = "int4"', 1), "'int4' is none of bfloat16, float16, float32"),
        (EYES.replace('folder = "eye"', "folder = 3"), "expected str, found 3"),
        (
            EYES.replace("thinking = 64", 'quantise = "int3"'),
            "'int3' is none of none, int8, int4, torchao-int8, torchao-int4",
        ),
        (
            WHOLE.replace('dtype = "float32"', "references = 1"),
            "references is 1; it is for kind generic, and at least 1",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, says):
    with pytest.raises(BadInput, match=says) as refused:
        read_config(written(tmp_path, text))
    assert "clvr.toml" in str(refused.value)


class TestServers:
    def read(self, folder: Path, text: str):
        path = folder / "servers.toml"
        path.write_text(text)
        return read_servers(path)

    def test_each_has_a_table_by_its_name(self, tmp_path):
        servers = self.read(
            tmp_path,
            '[ollama]\nurl = "http://127.0.0.1:1/v1"\n["my vllm"]\nurl = "https://example.com/v1"\nmodel = "eye"\n',
        )
        assert list(servers) == ["ollama", "my vllm"] and servers["my vllm"].endpoint.model == "eye"

    def test_without_a_file_there_are_none(self, tmp_path):
        assert read_servers(tmp_path / "none.toml") == {}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[a]\nurl = 3\n", "a.url: expected str"),
            ("[a]\n", "a.url is missing"),
            ('[a]\nurl = "http://127.0.0.1/v1"\nkey = "sk-1"\n', "a.key is not a setting"),
            ('[a]\nurl = "file:///etc"\n', "is not one; write it as"),
            ('[a]\nurl = "http://127.0.0.1/v1"\nparallel = 0\n', "parallel .* must be at least 1"),
            ('url = "http://127.0.0.1/v1"\n', r"url: expected a table \[url\]"),
            ("[a\n", "is not TOML"),
        ],
    )
    def test_what_cannot_be_used_is_named_with_the_file(self, tmp_path, text, says):
        with pytest.raises(BadInput, match=f"servers.toml.*{says}"):
            self.read(tmp_path, text)


def test_a_file_of_version_0_1_that_names_its_embedded_world_means_the_one_of_today(tmp_path):
    path = tmp_path / "clvr.toml"
    path.write_text('[controller]\nkind = "shapes"\n[executor]\nkind = "shapes"\n')
    config = read_config(path)
    assert [config.controller, config.executor.kind] == [Embedded("stickers"), "stickers"]
    path.write_text('[controller]\nkind = 3\n[executor]\nkind = "shapes"\n')
    with pytest.raises(BadInput, match="controller"):
        read_config(path)


def test_a_file_that_is_not_there_exits_with_2(tmp_path, capsys):
    arguments = ["generate", "a red circle", "--models", str(tmp_path / "none.toml"), "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "none.toml cannot be read: No such file" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def klein(tmp_path_factory) -> Path:
    """A folder as diffusers writes it, of the smallest size and untrained, without anything of ours beside it."""
    folder = tmp_path_factory.mktemp("klein")
    small.klein(32).save_pretrained(folder)
    return folder


def test_a_folder_without_a_recipe_is_sampled_as_its_makers_do(klein):
    settings = ExecutorSettings(folder=str(klein), dtype="float32")
    assert load_executor(settings, "cpu").recipe == published(distilled=False)
    four = replace(settings, steps=4, guidance=1.0)
    assert load_executor(four, "cpu").recipe == replace(
        published(distilled=False), generate=Sampling(4), edit=Sampling(4)
    )
    assert load_executor(four, "cpu").name == f'{klein.name} {{"steps": 4, "guidance": 1.0}}'
    assert published(distilled=False).generate == Sampling(28, 4.0) and published(distilled=True).edit == Sampling(4)


def answers(asked: Asked) -> Said:
    """A server that sees, lists one goal, draws once, and finds the goal met."""
    words = said_in(asked.body)
    if "logprobs" in asked.body:
        pictures = pictures_in(asked.body)
        red = "plain red" not in words or pictures[0][..., 0].mean() > 128
        return completion("", logprobs=[("Yes", 0.95), ("No", 0.05)] if red else [("No", 0.95), ("Yes", 0.05)])
    if "GENERATE" in json.dumps(asked.body["response_format"]):
        return completion(
            json.dumps(
                {
                    "kind": "GENERATE",
                    "summary": "new",
                    "scene_prompt": "a red circle",
                    "edit_prompt": "",
                    "goals": ["g1"],
                }
            )
        )
    return completion(
        json.dumps({"goals": [{"text": "a red circle", "kind": "local", "check": "Is there a red circle?"}]})
    )


def test_a_run_with_a_server_for_eyes_and_a_folder_for_a_hand(klein, tmp_path, capsys, monkeypatch):
    # The tiny text encoder has three layers, and reads no more than 128 tokens.
    tiny = SamplingRecipe(Sampling(2), Sampling(2), (1, 2, 3), (128,))
    monkeypatch.setattr("clvr_core.executor.klein.published", lambda distilled: tiny)
    executor = f'[executor]\nfolder = "{klein}"\ndevice = "cpu"\ndtype = "float32"\nwidth = 96\nheight = 64\n'
    with serving(answers) as server:
        path = written(tmp_path, f'[controller]\nurl = "{server.url}"\nmodel = "eye"\n{executor}')
        assert (
            cli.main(["generate", "a red circle", "--models", str(path), "--out", str(tmp_path / "run"), "--json"])
            == cli.DONE
        )
        summary = json.loads(capsys.readouterr().out)
        assert summary["met"] and summary["steps"] == 1 and summary["evaluations"] == 2
        first = json.loads((tmp_path / "run" / JOURNAL).read_text().splitlines()[0])
        assert first["models"]["controller"] == "eye" and (tmp_path / "run" / BEST).exists()
        assert cli.main(["resume", str(tmp_path / "run"), "--models", str(path)]) == cli.DONE


def test_a_server_that_is_not_running_is_said_before_anything_is_made(klein, tmp_path, capsys):
    path = written(
        tmp_path,
        f'[controller]\nurl = "http://127.0.0.1:9/v1"\nmodel = "eye"\nretries = 0\n[executor]\nfolder = "{klein}"\n',
    )
    assert (
        cli.main(["generate", "a red circle", "--models", str(path), "--out", str(tmp_path / "run")]) == cli.BAD_INPUT
    )
    printed = capsys.readouterr().err
    assert "127.0.0.1:9" in printed and "clvr.toml" in printed and not (tmp_path / "run").exists()


def test_a_blind_model_is_refused_before_anything_is_made(klein, tmp_path):
    with serving(lambda _: completion("", logprobs=[("Yes", 0.6), ("No", 0.4)])) as server:
        path = written(
            tmp_path, f'[controller]\nurl = "{server.url}"\nmodel = "gpt-blind"\n[executor]\nfolder = "{klein}"\n'
        )
        with pytest.raises(BadInput, match=r"^gpt-blind does not see"):
            load_models(str(path))


@pytest.fixture(scope="module")
def eye(tmp_path_factory) -> Path:
    from tests.vlm import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "eye", tiny.qwen3_vl)


def local(folder: Path, eye: Path, more: str = "") -> Path:
    return written(folder, EYES.replace('"eye"', f'"{eye}"') + more)


def test_a_local_model_that_does_not_see_is_refused_by_name_before_anything_is_made(eye, tmp_path, capsys):
    path = local(tmp_path, eye)
    assert (
        cli.main(["generate", "a red circle", "--models", str(path), "--out", str(tmp_path / "run")]) == cli.BAD_INPUT
    )
    assert "eye does not see" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_run_with_local_eyes_loads_them_once_for_both_parts(eye, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("clvr_core.vlm.sight.check_sight", lambda vlm: None)
    same = EYES[: EYES.index("[executor]")].replace("[controller]", "[verifier]").replace('"eye"', f'"{eye}"')
    path = local(tmp_path, eye, same)
    models = load_models(str(path))
    assert isinstance(models.vlm, LocalVlm) and models.judge is None
    other = load_models(str(local(tmp_path, eye, same.replace("image_side = 512", "image_side = 256"))))
    assert isinstance(other.judge, LocalVlm) and other.judge is not other.vlm
    text = (
        local(tmp_path, eye)
        .read_text()
        .replace("max_tokens = 800", "max_tokens = 20")
        .replace("thinking = 64", "thinking = 4")
        .replace("image_side = 512", "image_side = 64")
    )
    arguments = [
        "generate",
        "a red circle",
        "--models",
        str(written(tmp_path, text)),
        "--out",
        str(tmp_path / "run"),
        "--rounds",
        "1",
    ]
    assert cli.main([*arguments, "--json"]) in (cli.DONE, cli.NOT_MET)
    first = json.loads((tmp_path / "run" / JOURNAL).read_text().splitlines()[0])
    assert first["models"]["controller"] == "eye" and (tmp_path / "run" / BEST).exists()


def test_a_local_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match="eye is not the folder of a model"):
        load_models(str(written(tmp_path, EYES)))
