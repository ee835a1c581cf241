"""Files made from the schemas of the nodes: help pages, the English locale, and the list that guards saved workflows.

    python -m tests.nodes.papers

Writes web/docs, locales/en/nodeDefs.json, tests/comfy/schemas.json and docs/agents.json, and adds the English words for a new strategy to
the other locales until somebody translates them. Needs no ComfyUI: the schemas are read through
tests/nodes/stub_comfy, and tests/comfy/test_papers.py checks that a real ComfyUI reads the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GONE = "gone"
"""Key in schemas.json of a node that existed once: its id stays listed, since a saved workflow may have it."""
OPEN = {
    ("CLVR_LoadTrajectory", "run"),
    ("CLVR_ServerModel", "server"),
    ("CLVR_BriefList", "file"),
    ("CLVR_BenchmarkPrompts", "folder"),
    *(("CLVR_Quick", name) for name in ("model", "vlm", "vae", "text_encoder")),
    *(("CLVR_DSWMMerge", name) for name in ("base", "distilled", "aligned", "lora", "more_loras", "recipe_of")),
    ("CLVR_DSWMMergeLive", "loras"),
    ("CLVR_StickerWeights", "weights"),
    ("CLVR_StrengthFinder", "loras"),
}
"""(node, input) whose choices depend on the files of the machine; they are left out."""
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
"""Type of a choice that shows further inputs."""
PAGES, LOCALE, SCHEMAS = "web/docs", "locales/en/nodeDefs.json", "tests/comfy/schemas.json"


def object_info() -> dict[str, Any]:
    """Return what ComfyUI answers to /object_info for the nodes of this pack, made by the stub."""
    from tests.nodes.pack import NODES

    return json.loads(json.dumps({name: node.define_schema().info() for name, node in NODES.items()}))


def papers(info: dict[str, Any]) -> dict[str, str]:
    """Make all files from an answer to /object_info. Return path from the root of the repository -> text."""
    nodes = {name: node for name, node in sorted(info.items()) if name.startswith("CLVR_")}
    pages = {f"{PAGES}/{name}.md": page(node) for name, node in nodes.items()}
    tables = {
        LOCALE: {name: locale(node) for name, node in nodes.items()},
        SCHEMAS: {name: schema(node) for name, node in nodes.items()},
    }
    return pages | {path: json.dumps(data, indent=1, ensure_ascii=False) + "\n" for path, data in tables.items()}


def inputs(node: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any], bool]]:
    """Yield name, type or list of choices, options and whether it is required, for each input."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in node["input"].get(group, {}).items():
            options = dict(*rest[:1])
            choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
            yield (
                name,
                kind if choices is None else sorted(choices) if (node["name"], name) in OPEN else choices,
                options,
                group == "required",
            )


def outputs(node: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and tooltip of each output."""
    return zip(node["output_name"], node["output"], node["output_tooltips"])


def page(node: dict[str, Any]) -> str:
    lines = [f"# {node['display_name']}", "", node["description"], ""]
    if node["input"].get("required") or node["input"].get("optional"):
        # Lists: a column that explains would be out of sight in the narrow panel of the help.
        lines += ["## Inputs", ""]
        lines += [
            f"- **{name}** ({takes(node, name, kind, options)}{default(options)}): {line(options['tooltip'])}{rare(options)}"
            for name, kind, options, _ in inputs(node)
        ]
        lines.append("")
    lines += ["## Outputs", ""]
    lines += [f"- **{name}** ({kind}): {line(tooltip)}" for name, kind, tooltip in outputs(node)]
    if node.get("search_aliases"):
        lines += ["", f"Found under: {', '.join(node['search_aliases'])}."]
    return "\n".join(lines) + "\n"


def takes(node: dict[str, Any], name: str, kind: Any, options: dict[str, Any]) -> str:
    if options.get("options") and kind == DYNAMIC:
        return ", ".join(option["key"] for option in options["options"])
    if (node["name"], name) in OPEN:
        return "one of the list"
    if isinstance(kind, list):
        return ", ".join(kind)
    if kind in ("INT", "FLOAT"):
        return f"{options['min']} to {options['max']}"
    return {"STRING": "text"}.get(kind, kind)


def default(options: dict[str, Any]) -> str:
    """Return ", default ..." on one line; empty where there is none."""
    return f", default {line(str(options['default']))}" if options.get("default") not in (None, "") else ""


def rare(options: dict[str, Any]) -> str:
    return " Shown under the advanced inputs." if options.get("advanced") else ""


def line(text: str) -> str:
    return text.replace("\n", " ")


def locale(node: dict[str, Any]) -> dict[str, Any]:
    texts = {"display_name": node["display_name"], "description": node["description"]}
    named = {name: {"name": name, "tooltip": options["tooltip"]} for name, _, options, _ in inputs(node)}
    for name, kind, options, _ in inputs(node):
        named |= shown_by(name, options) if kind == DYNAMIC else {}
    made = {str(place): {"name": name, "tooltip": tooltip} for place, (name, _, tooltip) in enumerate(outputs(node))}
    return texts | ({"inputs": named} if named else {}) | {"outputs": made}


def shown_by(name: str, options: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the words of the inputs that a choice shows, at any depth, by the key that ComfyUI looks them up by: the path
    of names, joined by "_"."""
    found: dict[str, dict[str, str]] = {}
    for option in options["options"]:
        for group in option["inputs"].values():
            for inner, (kind, *rest) in group.items():
                path, given = f"{name}_{inner}", dict(*rest[:1])
                found[path] = {"name": inner, "tooltip": given["tooltip"]}
                found |= shown_by(path, given) if kind == DYNAMIC else {}
    return found


def schema(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a saved workflow depends on: names, types, order, defaults and limits. No texts."""
    kept = ("default", "min", "max", "step", "advanced", "lazy", "rawLink", "multiline", "control_after_generate")
    listed = {
        name: {"type": "COMBO" if (node["name"], name) in OPEN and kind != DYNAMIC else kind, "required": required}
        | {key: options[key] for key in kept if key in options and (node["name"], name) not in OPEN}
        for name, kind, options, required in inputs(node)
    }
    return {"inputs": listed, "outputs": list(node["output"]), "is_output_node": node["output_node"]}


def with_the_gone(schemas: str, known: str) -> str:
    """Add to these schemas the nodes of `known`, an earlier schemas.json, that no longer exist, marked GONE."""
    new, old = json.loads(schemas), json.loads(known)
    gone = {name: node | {GONE: True} for name, node in old.items() if name not in new}
    return json.dumps(dict(sorted((gone | new).items())), indent=1, ensure_ascii=False) + "\n"


def unreplaced(schemas: dict[str, Any], replacements: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Return the ids of nodes that no longer exist and that ComfyUI cannot replace by one that does.

    replacements: what ComfyUI answers to /node_replacements.
    """
    present = {name for name, node in schemas.items() if not node.get(GONE)}
    return {
        name
        for name in schemas.keys() - present
        if not any(each["new_node_id"] in present for each in replacements.get(name, ()))
    }


def with_new_strategies(text: str) -> str:
    """Add to the strategy tooltips of a nodeDefs.json, in any language, the English words for strategies they lack."""
    from clvr_core.policy import POLICIES

    nodes = json.loads(text)
    for node in nodes.values():
        if shown := node.get("inputs", {}).get("strategy"):
            lacking = [policy for name, policy in POLICIES.items() if name not in shown["tooltip"]]
            shown["tooltip"] += "".join(f" {policy.name}: {policy.hint}." for policy in lacking)
    return json.dumps(nodes, indent=1, ensure_ascii=False) + "\n"


def made() -> dict[str, str]:
    """Return path -> text of every file as the command writes it."""
    files = papers(object_info())
    for path in sorted((ROOT / "locales").glob("*/nodeDefs.json")):
        name = path.relative_to(ROOT).as_posix()
        files.setdefault(name, with_new_strategies(path.read_text(encoding="utf-8")))
    return files | {SCHEMAS: with_the_gone(files[SCHEMAS], (ROOT / SCHEMAS).read_text(encoding="utf-8"))}


def main() -> None:
    files = made()
    for stale in set((ROOT / PAGES).glob("CLVR_*.md")) - {ROOT / path for path in files}:
        stale.unlink()
    for path, text in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8", newline="\n")
    from tests.nodes.agents import write

    write()


if __name__ == "__main__":
    main()
