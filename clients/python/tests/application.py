"""The application of the tests. What a test chooses comes by the environment; who calls is what the client writes."""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers

from quotad import Caller, QuotadMiddleware
from quotad.middleware import ASGIApp, Receive, Scope, Send


async def identify(scope: Scope) -> str | Caller | None:
    headers = Headers(raw=scope["headers"])
    user = headers.get("x-user")
    if user == "operator":
        return None
    if user is not None and "x-tier" in headers:
        return Caller(user_id=user, tier=headers["x-tier"])
    return user or Caller(ip=scope["client"][0])


def items(scope: Scope) -> int:
    return int(Headers(raw=scope["headers"]).get("x-batch-size", "1"))


class Impatient:
    """Cancels what runs under `/cancelled`, as servers and other middleware may do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.ensure_future(self.app(scope, receive, send))
        if scope.get("path") == "/cancelled":
            await running.wait()
            task.cancel()
        await task


class Plain:
    """A server that can't answer a WebSocket by HTTP."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "extensions": {}}, receive, send)


running = asyncio.Event()
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def make() -> FastAPI:
    options = json.loads(os.environ["TEST_OPTIONS"])
    own = options.pop("own", [])
    app = FastAPI()
    if "default_identify" not in own:
        options |= {"identify": identify, "items": items}
    app.add_middleware(QuotadMiddleware, url=os.environ["TEST_URL"], api_key=os.environ["TEST_KEY"], **options)
    if "plain" in own:
        app.add_middleware(Plain)
    app.add_middleware(Impatient)

    @app.get("/health")
    def health() -> str:
        return "up"

    @app.post("/health/gates/{name}")
    async def open_gate(name: str) -> None:
        gates[name].set()

    @app.get("/gated/{name}")
    async def gated(name: str) -> str:
        """Answers when its gate is opened."""
        await gates[name].wait()
        return name

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"part\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    @app.get("/cancelled")
    async def cancelled() -> None:
        running.set()
        await asyncio.Event().wait()

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("as it was asked to")

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            if text == "fail":
                raise RuntimeError("as it was asked to")
            await socket.send_text(text)

    @app.api_route("/{path:path}", methods=["GET", "POST", "X" * 40])
    async def anything(request: Request, path: str) -> dict[str, Any]:
        return {"path": path}

    return app
