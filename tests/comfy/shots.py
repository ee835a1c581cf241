"""Makes the pictures of the shared workflows again: each opened in a real ComfyUI, seen by Chromium.

    $COMFYUI_PYTHON -m tests.comfy.shots [NAME ...]

Takes COMFYUI_DIR and COMFYUI_PYTHON as the tests do, and CHROMIUM, `chromium` if unset; needs aiohttp, which ComfyUI has.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp

from tests.comfy.server import ROOT, Comfy

WORKFLOWS = ROOT / "workflows"
WIDTH, HEIGHT, QUALITY = 2200, 1100, 80
DRAWABLE = ("0-one-node", "0-one-node.app", "1-quick-try", "7-merge-and-generate")
"""Workflows that the embedded models can run; their pictures show what came out."""
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
]
FLAGS += [
    "--disable-component-update",
    f"--window-size={WIDTH},{HEIGHT}",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Minimap.Visible": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""Stored before the page is opened, which would else greet a newcomer with its templates."""
NOTHING = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file that holds no tensor."""
READY = "Boolean(window.app?.graph && window.app.extensionManager && document.querySelector('canvas'))"
SHOWN = "document.body.innerText.slice(0, 500)"
OPENS_WITHIN = 120
OPEN = """(async () => {
  await app.loadGraphData(%s)
  await new Promise((done) => setTimeout(done, 1500))
  await DRAWN
  const boxes = [...app.graph.nodes, ...app.graph.groups].map((part) => part.boundingRect ?? part._bounding ?? part.getBounding())
  const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])) - 30)
  const [right, bottom] = [0, 1].map((side) => Math.max(...boxes.map((box) => box[side] + box[side + 2])) + 30)
  const view = app.canvas.canvas.getBoundingClientRect()
  const scale = Math.min(view.width / (right - left), view.height / (bottom - top))
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [-left, -top]
  app.canvas.setDirty(true, true)
  const sheet = document.head.appendChild(document.createElement('style'))
  sheet.id = 'clvr-shot'
  sheet.textContent = 'body * { visibility: hidden } #graph-canvas, .dom-widget, .dom-widget * { visibility: visible !important }'
  await new Promise((done) => setTimeout(done, 1500))
  return [view.x, view.y, scale * (right - left), scale * (bottom - top)]
})()"""

OPEN_APP = """(async () => {
  await app.loadGraphData(%s, true, true, '0-one-node.app')
  await new Promise((done) => setTimeout(done, 3000))
  document.querySelectorAll('#clvr-shot').forEach((sheet) => sheet.remove())
  for (const button of document.querySelectorAll('button')) if (button.textContent.trim() === 'Skip') button.click()
  await DRAWN
  return [0, 0, document.documentElement.clientWidth, document.documentElement.clientHeight]
})()"""

DRAWN = """(async () => {
  const told = (name) =>
    new Promise((done) => app.api.addEventListener(name, ({ detail }) => done([name, detail]), { once: true }))
  const late = new Promise((done) => setTimeout(() => done(['no end of the run within 300 s']), 300_000))
  const ended = Promise.race([late, ...['execution_success', 'execution_error', 'execution_interrupted'].map(told)])
  if ((await app.queuePrompt(0)) === false) throw new Error('refused: ' + JSON.stringify(app.lastNodeErrors))
  const [how, detail] = await ended
  if (how !== 'execution_success') throw new Error(how + ' ' + JSON.stringify(detail))
  await new Promise((done) => setTimeout(done, 5000))
})()"""
"""Runs the graph, for those whose models are at hand."""


class Browser:
    """One page of a headless Chromium, driven by its own protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.number = socket, 0

    async def call(self, method: str, **params) -> dict:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        async for message in self.socket:
            answer = json.loads(message.data)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]
        raise RuntimeError("the browser went away")

    async def value(self, expression: str):
        told = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(json.dumps(told["exceptionDetails"])[:2000])
        return told["result"].get("value")


async def shoot(url: str, port: int, names: list[str]) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/api/settings", json=SETTINGS) as answer:
            answer.raise_for_status()
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(page for page in await answer.json(content_type=None) if page["type"] == "page")
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            browser = Browser(socket)
            await browser.call("Page.navigate", url=url)
            for _ in range(OPENS_WITHIN * 2):
                if await browser.value(READY):
                    break
                await asyncio.sleep(0.5)
            else:
                raise TimeoutError(f"no graph at {url} within {OPENS_WITHIN} s: {await browser.value(SHOWN)}")
            await asyncio.sleep(3)
            # Apps last: their mode stays.
            for name in sorted(names, key=lambda name: name.endswith(".app")):
                opening = OPEN_APP if name.endswith(".app") else OPEN
                opening = opening.replace("DRAWN", DRAWN if name in DRAWABLE else "null")
                x, y, width, height = await browser.value(opening % (WORKFLOWS / f"{name}.json").read_text())
                clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
                shot = await browser.call("Page.captureScreenshot", format="jpeg", quality=QUALITY, clip=clip)
                (WORKFLOWS / f"{name}.jpg").write_bytes(base64.b64decode(shot["data"]))
                print(name, round(width), "x", round(height))


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "custom_nodes").mkdir()
        if not set(names) <= set(DRAWABLE):
            (base / "custom_nodes" / "clvr_tiny").symlink_to(Path(__file__).parent / "tiny", target_is_directory=True)
        stand_in(base, names)
        with Comfy(base) as server:
            command = [
                os.environ.get("CHROMIUM", "chromium"),
                *FLAGS,
                f"--user-data-dir={base / 'browser'}",
                "about:blank",
            ]
            browser = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            try:
                line = next(line for line in browser.stderr if "DevTools listening on" in line)
                port = int(line.split("127.0.0.1:")[1].split("/")[0])
                asyncio.run(shoot(f"http://127.0.0.1:{server.port}", port, names))
            finally:
                browser.terminate()
                browser.wait()


def stand_in(base: Path, names: list[str]) -> None:
    """A file without a tensor for every model that a workflow names, so that no dialog asks for it, and a picture to load. Workflows that
    are run get none: CLVR Quick would load them in place of the embedded models."""
    for name in names:
        for node in json.loads((WORKFLOWS / f"{name}.json").read_text())["nodes"]:
            for model in node["properties"].get("models", ()) if name not in DRAWABLE else ():
                path = base / "models" / model["directory"] / model["name"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(NOTHING)
            if node["type"] == "LoadImage":
                (base / "input").mkdir(exist_ok=True)
                shutil.copy(ROOT / "docs" / "first-light.png", base / "input" / node["widgets_values"][0])


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1:])
    else:
        # Apart: with the tiny models of the others in its folders, CLVR Quick would not take the embedded ones.
        main(list(DRAWABLE))
        main([path.stem for path in sorted(WORKFLOWS.glob("*.json")) if path.stem not in DRAWABLE])
