"""The door ComfyUI opens."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import ClvrExtension

    return ClvrExtension()
