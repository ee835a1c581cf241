"""Loads the pack into ComfyUI without a server, and prints what that cost. Run by ComfyUI's Python in ComfyUI's folder.

    loading.py PACK

Prints one JSON object: the processor seconds that loading the pack took, the modules and the nodes that it brought.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time


def main(pack: str) -> None:
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, os.getcwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    import server

    import nodes

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server.PromptServer(loop)
    before, started = set(sys.modules), time.process_time()
    loaded = loop.run_until_complete(nodes.load_custom_node(pack))
    seconds = time.process_time() - started
    brought = sorted(name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("CLVR_"))
    print(
        json.dumps(
            {"loaded": loaded, "seconds": seconds, "modules": sorted(set(sys.modules) - before), "nodes": brought}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
