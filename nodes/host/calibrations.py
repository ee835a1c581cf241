"""Where the nodes keep what was measured of each executor."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...clvr_core.run.calibration import FILE
from .sockets import ExecutorHandle


def calibration_file() -> Path:
    """Return the file, which ComfyUI's web interface does not serve: its folder begins with two underscores."""
    return Path(folder_paths.get_system_user_directory("clvr")) / FILE


def calibration_name(handle: ExecutorHandle) -> str:
    """Return the name of the executor in that file, with the digest of its weights and settings if that is known."""
    return f"{handle.executor.name} {handle.weights}".strip()
