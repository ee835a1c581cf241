"""JSON over HTTP, to servers that may hang, send too much, cut an answer short, or answer with something else."""

from .client import Client, Limits, ServerFailure, address, key_of
from .form import multipart

__all__ = ["Client", "Limits", "ServerFailure", "address", "key_of", "multipart"]
