"""quotad before a FastAPI application: `clients/python/README.md` says how to run it."""

import os

from fastapi import FastAPI, WebSocket
from starlette.datastructures import Headers

from quotad import Caller, QuotadMiddleware, client_address
from quotad.middleware import Scope

# Stands for what an application knows of its users.
TOKENS = {
    "alice-token": Caller(user_id="alice"),
    "bob-token": Caller(user_id="bob", tier="pro"),
}


def identify(scope: Scope) -> Caller:
    """Who has shown a token that is known; else the address."""
    token = Headers(raw=scope["headers"]).get("authorization", "").removeprefix("Bearer ")
    return TOKENS.get(token) or client_address(scope)


app = FastAPI()
app.add_middleware(
    QuotadMiddleware,
    url=os.environ.get("QUOTAD_URL", "http://127.0.0.1:8080"),
    api_key=os.environ["QUOTAD_KEY"],
    identify=identify,
    lease=True,
    exclude=["/health"],
    on_unavailable="allow",
    timeout=float(os.environ.get("QUOTAD_TIMEOUT", "0.25")),
)


@app.get("/health")
def health() -> str:
    return "up"


@app.get("/api/v1/agents")
def agents() -> list[str]:
    return ["one", "two"]


@app.websocket("/ws")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
