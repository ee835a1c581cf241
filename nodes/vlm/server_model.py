"""The node of a vision-language model behind a server. What speaks to one is imported where the node works."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import folder_paths
from comfy_api.latest import io

from ...clvr_core.errors import Away, BadInput, JudgeFailure
from ..host.sockets import VLM

NONE = "none configured"
EXAMPLE = '[ollama]\nurl = "http://127.0.0.1:11434/v1"\nmodel = "qwen3-vl:8b"\n'


def config_file() -> Path:
    """Return the file that lists the servers. ComfyUI's web interface does not serve user folders that begin with two
    underscores.
    """
    return Path(folder_paths.get_system_user_directory("clvr")) / "servers.toml"


def server_names() -> list[str]:
    """Return the names in the file. A file that cannot be read gives NONE here, and its error when the node runs."""
    if not config_file().exists():
        return [NONE]
    from ...clvr_core.models.config import read_servers

    try:
        return list(read_servers(config_file())) or [NONE]
    except BadInput:
        return [NONE]


class ServerModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_ServerModel",
            display_name="Server Model",
            category="CLVR/models",
            description="A vision-language model behind an OpenAI-compatible server, such as Ollama, LM Studio, vLLM "
            "or llama.cpp. The servers are listed in user/__clvr/servers.toml in ComfyUI's folder, so that no "
            "workflow holds an address or a key.",
            search_aliases=["VLM", "Ollama", "LM Studio", "vLLM", "llama.cpp", "OpenAI", "API", "remote judge"],
            inputs=[
                io.Combo.Input(
                    "server",
                    options=server_names(),
                    tooltip="One of those in user/__clvr/servers.toml, by its name there.",
                )
            ],
            outputs=[VLM.Output("vlm", tooltip="Plans the picture and judges it.")],
        )

    @classmethod
    def fingerprint_inputs(cls, server: str) -> list:
        return [server, config_file().stat().st_mtime_ns if config_file().exists() else 0]

    @classmethod
    def execute(cls, server: str) -> io.NodeOutput:
        from ...clvr_core.models.config import read_servers
        from ...clvr_core.vlm.server import ServerVlm
        from ...clvr_core.vlm.sight import check_sight

        servers = read_servers(config_file())
        if server not in servers:
            raise BadInput(f"server {server!r:.80} is not in {config_file()}; write it there, for example:\n{EXAMPLE}")
        vlm = ServerVlm(servers[server].endpoint, comfy.model_management.throw_exception_if_processing_interrupted)
        vlm.name = f"{vlm.name} ({server})"
        try:
            check_sight(vlm)
        except (JudgeFailure, Away) as error:
            raise BadInput(f"{error}; see to the server, or to its entry in {config_file()}") from error
        return io.NodeOutput(vlm)
