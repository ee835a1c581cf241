from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ...clvr_core.errors import BadInput
from ...clvr_core.world import world_named
from ..executor.nodes import STEP
from ..executor.recipes import RECIPES
from ..host.run_folders import count_gone
from ..host.sockets import TRAJECTORY
from ..loop import inputs
from .families import FAMILIES, VLM
from .files import AUTO, EMBEDDED, FOLDERS, THEN, Choice, choose, files_of, unknown_file

WIDGETS = (*FOLDERS, "recipe")


class Quick(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Quick",
            display_name="CLVR Quick",
            category="CLVR",
            description="From a prompt to a picture in one node: finds the model files by their names, plans, draws, "
            "judges goal by goal and edits until every goal holds. Without any model file it draws with the small "
            "embedded models.",
            search_aliases=[
                "one node",
                "prompt to picture",
                "text to image",
                "image edit",
                "inpaint",
                "flux",
                "klein",
                "qwen",
                "z-image",
                "fix hands",
                "critique",
                "improve prompt",
                "self correct",
                "quality check",
                "agent",
            ],
            inputs=[
                inputs.prompt(),
                io.Combo.Input(
                    "model",
                    options=[AUTO, *files_of("model"), EMBEDDED],
                    default=AUTO,
                    tooltip="The diffusion model. auto: FLUX.2 Klein, FLUX.3 Klein, Qwen-Image-Edit, Qwen-Image 2.1 or "
                    "Z-Image, found in models/diffusion_models by its name; with none of them the embedded models, "
                    "which draw 3-D emoji.",
                ),
                io.Combo.Input(
                    "vlm",
                    options=[AUTO, *files_of("vlm")],
                    default=AUTO,
                    tooltip="The vision-language model that plans and judges. auto: Qwen3-VL, Qwen3.5 or Gemma 4, found "
                    "in models/text_encoders by its name.",
                ),
                io.Combo.Input(
                    "vae",
                    options=[AUTO, *files_of("vae")],
                    default=AUTO,
                    tooltip="The VAE. auto: the one of the diffusion model, such as flux2-vae, found in models/vae.",
                ),
                io.Int.Input("width", default=1024, min=64, max=4096, step=STEP, tooltip="Pixels of the picture."),
                io.Int.Input("height", default=1024, min=64, max=4096, step=STEP, tooltip="Pixels of the picture."),
                inputs.seed(),
                inputs.rounds(),
                io.Combo.Input(
                    "text_encoder",
                    options=[AUTO, *files_of("text_encoder")],
                    default=AUTO,
                    advanced=True,
                    tooltip="What reads the prompt for the diffusion model. auto: the one that goes with it, in 8 bits "
                    "where the memory is small.",
                ),
                io.Combo.Input(
                    "recipe",
                    options=[AUTO, *(name for name in RECIPES if name in {family.recipe for family in FAMILIES})],
                    default=AUTO,
                    advanced=True,
                    tooltip="How the model is sampled, as in Executor. auto: by the name of its file.",
                ),
                inputs.strategy(advanced=True),
                inputs.candidates(),
                inputs.review_seconds("review", default=0),
                inputs.picture(),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The best picture as judged, which need not be the last."),
                TRAJECTORY.Output("trajectory", tooltip="All that was planned, drawn and judged."),
                io.String.Output(
                    "summary", tooltip="What came out, in a sentence, and any warning in a line of its own."
                ),
            ],
            enable_expand=True,
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(
        cls,
        prompt: str | None = None,
        model: str | None = None,
        vlm: str | None = None,
        vae: str | None = None,
        text_encoder: str | None = None,
    ) -> bool | str:
        asked = {"model": model, "vlm": vlm, "vae": vae, "text_encoder": text_encoder}
        unknown = [words for widget, value in asked.items() if (words := unknown_file(widget, value))]
        return unknown[0] if unknown else inputs.prompt_error(prompt)

    @classmethod
    def fingerprint_inputs(cls, **asked: Any) -> str:
        # A file that came or went may change what auto means.
        return repr((count_gone(), *(files_of(widget) for widget in FOLDERS)))

    @classmethod
    def execute(
        cls, prompt: str, width: int = 1024, height: int = 1024, review: int = 0, **asked: Any
    ) -> io.NodeOutput:
        choice = choose({name: asked.pop(name) for name in WIDGETS if name in asked})
        if choice.complaint:
            raise BadInput(choice.complaint)
        graph = GraphBuilder()
        vlm, executor = _real(graph, choice, width, height) if choice.family else _embedded(graph, prompt)
        made = _node(graph, "CLVR_Generate", vlm=vlm, executor=executor, prompt=prompt, review=review, **_whole(asked))
        return io.NodeOutput(*(made.out(place) for place in range(3)), expand=graph.finalize())


def _whole(asked: dict[str, Any]) -> dict[str, Any]:
    """Add the inputs of Generate that this node does not have, with their defaults."""
    return {"strategy": "clvr", "seed": 0, "rounds": 12, "candidates": 0, "patience": 4, "evaluations": 0} | asked


def _real(graph: GraphBuilder, choice: Choice, width: int, height: int) -> tuple[list, list]:
    """Add ComfyUI's loaders, Vision Model and Executor; return links to the vlm and the executor."""
    files, family = choice.files, choice.family
    model = _node(graph, "UNETLoader", unet_name=files["model"], weight_dtype="default")
    clip = _node(graph, "CLIPLoader", "text", clip_name=files["text_encoder"], type=family.type, device="default")
    vae = _node(graph, "VAELoader", vae_name=files["vae"])
    seeing = _node(graph, "CLIPLoader", "seeing", clip_name=files["vlm"], type="stable_diffusion", device="default")
    vlm = _node(graph, "CLVR_VisionModel", clip=seeing.out(0))
    links = {"model": model.out(0), "clip": clip.out(0), "vae": vae.out(0)}
    executor = _node(graph, "CLVR_Executor", **links, recipe=choice.recipe, width=width, height=height)
    return vlm.out(0), executor.out(0)


def _embedded(graph: GraphBuilder, prompt: str) -> tuple[list, list]:
    """Add Sticker Models; return links to the vlm and the executor. Raises BadInput for a prompt that they cannot read."""
    world = world_named()
    try:
        world.parse(prompt)
    except world.NotInGrammar as error:
        parts = (FAMILIES[0].model, FAMILIES[0].encoder, FAMILIES[0].vae, VLM)
        raise BadInput(
            f"{error} So says the grammar of the embedded models, which draw when there is no other model. For any "
            f"other picture get {FAMILIES[0].title}: {'; '.join(part.offer for part in parts)}. {THEN}"
        ) from error
    models = _node(graph, "CLVR_ShapesModels")
    return models.out(0), models.out(1)


def _node(graph: GraphBuilder, kind: str, name: str = "", **values: Any) -> Any:
    """Add a node, whose id tells ComfyUI's cache that it is the same one in the next prompt."""
    node = graph.node(kind, id=name or kind)
    for key, value in values.items():
        node.set_input(key, value)
    return node
