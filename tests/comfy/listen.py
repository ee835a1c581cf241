"""What a ComfyUI tells its client while it works, a line of JSON for each message. Run by ComfyUI's Python, which has aiohttp.

    listen.py PORT CLIENT

`said`: type and data of a message; `text`: words under a node; `preview`: the node that shows a picture, and its size in bytes.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys

import aiohttp

TEXT, PREVIEW = 3, 4


def told(message: aiohttp.WSMessage) -> dict | None:
    if message.type is aiohttp.WSMsgType.TEXT:
        return {"said": json.loads(message.data)}
    (kind, length), body = struct.unpack(">II", message.data[:8]), message.data[8:]
    if kind == TEXT:
        return {"text": [body[:length].decode(), body[length:].decode()]}
    if kind == PREVIEW:
        return {"preview": [json.loads(body[:length]), len(body) - length]}
    return None


async def main(port: str, client: str) -> None:
    url = f"ws://127.0.0.1:{port}/ws?clientId={client}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        async for message in socket:
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY) and (line := told(message)):
                print(json.dumps(line), flush=True)


asyncio.run(main(*sys.argv[1:]))
