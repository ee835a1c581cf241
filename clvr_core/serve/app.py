"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Route

from .service import Service

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def app_of(service: Service) -> Starlette:
    """Return the application. When it ends, so does the service."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    return Starlette(routes=[Route("/{path:path}", service.answer, methods=METHODS)], lifespan=lifespan)
