"""Loop Start and Loop End. The graph between them is the body of the loop: Loop End clones it for each round until the
run has ended.
"""

from __future__ import annotations

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder, is_link
from comfy_execution.utils import get_executing_context

from ...clvr_core.errors import BadInput
from ..host.metadata import embed_in_best, name_run
from ..host.pictures import as_image, release_memory
from ..host.progress import announce_run, show_round, show_text
from ..host.run_folders import name_of, require_inside, runs_folder
from ..host.sockets import TRAJECTORY, Run
from ..host.summaries import name_in_ui, preview_images, summary_of
from .graph_session import best_of, run_at
from .inputs import MAX_ROUNDS

START, END = "CLVR_LoopStart", "CLVR_LoopEnd"
RELEASE_EVERY = 4
"""Passes after which memory is released; it takes milliseconds."""
MAX_PASSES = 3 * MAX_ROUNDS
"""Passes of the body at most: a pass that draws may be followed by one that looks again and one whose ending is
rejected.
"""


class LoopStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=START,
            display_name="Loop Start",
            category="CLVR/loop",
            description="The first node of the body. All nodes between it and Loop End are executed in every round; "
            "any node may stand there.",
            search_aliases=["while", "repeat", "iterate", "for loop", "begin loop"],
            inputs=[TRAJECTORY.Input("trajectory", tooltip="The run, from Brief.")],
            outputs=[
                io.FlowControl.Output("flow", tooltip="Link it to Loop End."),
                TRAJECTORY.Output(
                    "begun", display_name="trajectory", tooltip="The run as this round finds it, for Reason."
                ),
            ],
            hidden=[io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, trajectory: Run) -> io.NodeOutput:
        inputs = cls.hidden.dynprompt.get_node(get_executing_context().node_id)["inputs"]
        if "at" not in inputs:
            return io.NodeOutput(None, trajectory)
        folder = require_inside(runs_folder() / str(inputs["run"]))
        return io.NodeOutput(None, run_at(trajectory, folder, inputs["at"]))


class LoopEnd(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=END,
            display_name="Loop End",
            category="CLVR/loop",
            description="The last node of the body. It begins another round until every goal holds or the budget of "
            "the Brief is spent, and hands over the best picture. A preview in the body must lie on the way to it, or "
            "it shows the first round only.",
            search_aliases=["while", "repeat", "iterate", "until", "end loop"],
            inputs=[
                io.FlowControl.Input("flow", raw_link=True, tooltip="From Loop Start."),
                TRAJECTORY.Input("trajectory", tooltip="The run with this round in it, from Verify."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The best picture as judged, which need not be the last."),
                TRAJECTORY.Output(
                    "ended", display_name="trajectory", tooltip="All that was planned, drawn and judged."
                ),
                io.String.Output(
                    "summary", tooltip="What came out, in a sentence, and any warning in a line of its own."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            enable_expand=True,
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, flow: list, trajectory: Run) -> io.NodeOutput:
        graph, me = cls.hidden.dynprompt, cls.hidden.unique_id
        if not is_link(flow) or graph.get_node(flow[0])["class_type"] != START:
            raise BadInput("flow of Loop End does not come from a Loop Start; link the two")
        start, run = graph.get_node(flow[0])["inputs"], trajectory
        if start.get("at") == run.position:
            raise BadInput(
                "nothing between Loop Start and Loop End moved the run on: link Reason, Verify and Loop End by their trajectories"
            )
        passes = start.get("passes", 0) + 1
        picture = best_of(run)
        show_round(run.trajectory, picture)
        if passes % RELEASE_EVERY == 0:
            release_memory()
        announce_run(run.folder)
        if run.trajectory.outcome is None and passes < MAX_PASSES:
            at = {"passes": passes, "at": run.position, "run": name_of(run.folder)}
            clones, end = another_round(graph, flow[0], me, at)
            # ComfyUI's cache keeps what this node shows now, not what its last clone shows.
            return io.NodeOutput(
                *(end.out(socket) for socket in range(3)), expand=clones.finalize(), ui=name_in_ui(run)
            )
        if picture is None:
            raise BadInput(f"no picture was drawn: {summary_of(run.trajectory)}")
        name_run(run.folder, cls.hidden)
        embed_in_best(run, cls.hidden)
        summary = summary_of(run.trajectory)
        show_text(summary)
        return io.NodeOutput(as_image(picture), run, summary, ui=preview_images(run))


def another_round(graph, start: str, end: str, place: dict[str, int | str]):
    """Clone the body with Loop Start and Loop End; return the builder and the clone of Loop End.

    The clones are linked to each other, not given values, so that ComfyUI's cache recognises them in the next prompt.
    None is linked to the previous round: ComfyUI follows links recursively to build a cache key, and a long loop would
    exceed Python's recursion limit.

    place: inputs for the cloned Loop Start that say where in the journal its round begins.
    """
    body = between(graph, start, end)
    builder = GraphBuilder()
    names = names_of(body, {start: "start", end: "again"})
    clones = {node: builder.node(graph.get_node(node)["class_type"], id=names[node]) for node in body}
    for node, clone in clones.items():
        clone.set_override_display_id(graph.get_display_node_id(node))
        for key, value in graph.get_node(node)["inputs"].items():
            inside = is_link(value) and value[0] in clones
            clone.set_input(key, clones[value[0]].out(value[1]) if inside else value)
    for key, value in place.items():
        clones[start].set_input(key, value)
    return builder, clones[end]


def names_of(body: list[str], known: dict[str, str]) -> dict[str, str]:
    """Return a unique name for each node's clone: its own id without the prefix of the previous round."""
    names = dict(known)
    for node in body:
        if node not in names:
            name = node.rpartition(".")[2]
            while name in names.values():
                name += "_"
            names[node] = name
    return names


def between(graph, start: str, end: str) -> list[str]:
    """Return the ids of all nodes on a path from Loop Start to Loop End, including both, sorted."""
    users: dict[str, set[str]] = {}
    todo, seen = [end], {end}
    while todo:
        node = todo.pop()
        for value in graph.get_node(node)["inputs"].values():
            if is_link(value):
                users.setdefault(value[0], set()).add(node)
                if value[0] not in seen and value[0] != start:
                    todo.append(value[0])
                seen.add(value[0])
    found, todo = {start, end}, [start]
    while todo:
        for user in users.get(todo.pop(), ()):
            if user not in found:
                found.add(user)
                todo.append(user)
    return sorted(found)
