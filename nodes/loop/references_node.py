from __future__ import annotations

from comfy_api.latest import io

from ...clvr_core.run.loop import Draw
from ..host.pictures import as_image
from ..host.sockets import TRAJECTORY, Run
from .graph_session import GraphSession


class ApplyReferences(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_ApplyReferences",
            display_name="Apply References",
            category="CLVR/loop",
            description="Shows the canvases of this round to an edit model, so that samplers of your own can be the "
            "body of the loop: adds them to the conditioning when the round edits, and leaves it as it is when the "
            "round paints anew. Put one behind the positive prompt, and one behind the negative prompt if it is used.",
            search_aliases=["reference latent", "edit conditioning", "image edit", "kontext", "reference image"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The prompt of this round, encoded."),
                io.Vae.Input("vae", tooltip="The edit model's VAE."),
                TRAJECTORY.Input("trajectory", tooltip="The run, from Reason."),
            ],
            outputs=[
                io.Conditioning.Output(
                    "referenced", display_name="conditioning", tooltip="With the canvases in it, if this round edits."
                )
            ],
        )

    @classmethod
    def execute(cls, conditioning: list, vae, trajectory: Run) -> io.NodeOutput:
        from ..executor.comfy_sampler import with_references

        graph = GraphSession(trajectory)
        pictures = graph.session.compose(graph.call).requests[0].references if isinstance(graph.call, Draw) else ()
        latents = [vae.encode(as_image(picture)) for picture in pictures]
        return io.NodeOutput(with_references(conditioning, latents))
