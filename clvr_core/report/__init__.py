"""Views of a trajectory: PNG metadata, one self-contained page, contact sheets. Needs numpy and Pillow, never torch."""

from ..storage.png import read_png, save_png, trajectory_of, write_png
from .html import write_report
from .sheet import contact_sheet

__all__ = ["contact_sheet", "read_png", "save_png", "trajectory_of", "write_png", "write_report"]
