"""What is written about the nodes, made from their schemas: help pages, the English locale, the list that guards against changes.

    python -m tests.comfy.papers FILE

FILE is what a running ComfyUI with this pack answers to /object_info. Writes web/docs, locales/en/nodeDefs.json and
tests/comfy/schemas.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.comfy.server import ROOT

GONE = "gone"
OPEN = {
    ("CLVR_LoadTrajectory", "run"),
    ("CLVR_ServerModel", "server"),
    ("CLVR_BenchmarkPrompts", "folder"),
    *(("CLVR_DSWMMerge", name) for name in ("base", "distilled", "aligned", "lora")),
}
"""Lists that depend on what lies in the input and output folders, in the model folders, or on the machine."""
PAGES, LOCALE, SCHEMAS = "web/docs", "locales/en/nodeDefs.json", "tests/comfy/schemas.json"


def papers(info: dict[str, Any]) -> dict[str, str]:
    """Path from the root of the repository -> text."""
    nodes = {name: node for name, node in sorted(info.items()) if name.startswith("CLVR_")}
    pages = {f"{PAGES}/{name}.md": page(node) for name, node in nodes.items()}
    told = {
        LOCALE: {name: locale(node) for name, node in nodes.items()},
        SCHEMAS: {name: schema(node) for name, node in nodes.items()},
    }
    return pages | {path: json.dumps(data, indent=1, ensure_ascii=False) + "\n" for path, data in told.items()}


def inputs(node: dict[str, Any]):
    """Name, type or list of choices, options, whether it must be there."""
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


def outputs(node: dict[str, Any]):
    return zip(node["output_name"], node["output"], node["output_tooltips"])


def page(node: dict[str, Any]) -> str:
    lines = [f"# {node['display_name']}", "", node["description"], ""]
    if node["input"].get("required") or node["input"].get("optional"):
        lines += ["| input | what it takes | default | what it does |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {takes(node, name, kind, options)} | {default(options)} | {cell(options['tooltip'])}{rare(options)} |"
            for name, kind, options, _ in inputs(node)
        ]
        lines.append("")
    lines += ["| output | type | what it is |", "|---|---|---|"]
    lines += [f"| {name} | {kind} | {cell(tooltip)} |" for name, kind, tooltip in outputs(node)]
    if node.get("search_aliases"):
        lines += ["", f"Found under: {', '.join(node['search_aliases'])}."]
    return "\n".join(lines) + "\n"


def takes(node: dict[str, Any], name: str, kind: Any, options: dict[str, Any]) -> str:
    if (node["name"], name) in OPEN:
        return "one of the list"
    if isinstance(kind, list):
        return ", ".join(kind)
    if kind in ("INT", "FLOAT"):
        return f"{options['min']} to {options['max']}"
    return {"STRING": "text"}.get(kind, kind)


def default(options: dict[str, Any]) -> str:
    return cell(str(options["default"])) if options.get("default") not in (None, "") else ""


def rare(options: dict[str, Any]) -> str:
    return " Shown under the advanced inputs." if options.get("advanced") else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def locale(node: dict[str, Any]) -> dict[str, Any]:
    said = {"display_name": node["display_name"], "description": node["description"]}
    named = {name: {"name": name, "tooltip": options["tooltip"]} for name, _, options, _ in inputs(node)}
    made = {str(place): {"name": name, "tooltip": tooltip} for place, (name, _, tooltip) in enumerate(outputs(node))}
    return said | ({"inputs": named} if named else {}) | {"outputs": made}


def schema(node: dict[str, Any]) -> dict[str, Any]:
    """What a saved workflow depends on: names, types, order, defaults and limits; no words."""
    kept = ("default", "min", "max", "step", "advanced", "lazy", "rawLink", "multiline", "control_after_generate")
    listed = {
        name: {"type": "COMBO" if (node["name"], name) in OPEN else kind, "required": required}
        | {key: options[key] for key in kept if key in options and (node["name"], name) not in OPEN}
        for name, kind, options, required in inputs(node)
    }
    return {"inputs": listed, "outputs": list(node["output"]), "is_output_node": node["output_node"]}


def with_the_gone(schemas: str, known: str) -> str:
    """The schemas with those before them whose nodes are there no more: their ids are to be replaced for ever."""
    new, old = json.loads(schemas), json.loads(known)
    gone = {name: told | {GONE: True} for name, told in old.items() if name not in new}
    return json.dumps(dict(sorted((gone | new).items())), indent=1, ensure_ascii=False) + "\n"


def unreplaced(schemas: dict[str, Any], replacements: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Ids that once were, are no more, and of which ComfyUI is not told by what node that is there they are replaced."""
    there = {name for name, told in schemas.items() if not told.get(GONE)}
    return {
        name
        for name in schemas.keys() - there
        if not any(each["new_node_id"] in there for each in replacements.get(name, ()))
    }


def main(file: str) -> None:
    made = papers(json.loads(Path(file).read_text()))
    made[SCHEMAS] = with_the_gone(made[SCHEMAS], (ROOT / SCHEMAS).read_text())
    for path, text in made.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
