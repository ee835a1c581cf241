"""One suite of tests for everything that implements a protocol of clvr_core.protocols."""

from __future__ import annotations

from clvr_core import protocols

OPTIONAL = {
    kind
    for kind in vars(protocols).values()
    if isinstance(kind, type)
    and getattr(kind, "_is_runtime_protocol", False)
    and kind not in (protocols.Vlm, protocols.Executor)
}
"""The optional protocols."""
