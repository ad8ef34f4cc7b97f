"""Limits before an ASGI application: a check for each request, and a slot for as long as it runs."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from .client import LEASE_SECONDS, AsyncQuotad
from .errors import ConfigurationError, QuotadError
from .models import Caller, Check, Decision, LeaseKind

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Identified: TypeAlias = str | Caller | None
Identify = Callable[[Scope], Identified | Awaitable[Identified]]
Headers = Iterable[tuple[bytes, bytes]]

logger = logging.getLogger("quotad")

_LEASES: dict[str, LeaseKind] = {"http": "request", "websocket": "websocket"}
_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_BODIES = ("http.response.body", "websocket.http.response.body")

# What the service takes. A request that it refused to look at would be let pass by `on_unavailable="allow"`.
_PATH_MAX_BYTES = 8192
_METHOD_MAX_CHARS = 32
_ITEMS_MAX = 1_000_000
_NOT_OF_A_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f?#]")

_QUIET_SECONDS = 60.0
_REFUSALS_TOLD_MAX = 100

_UNAVAILABLE = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": "limits can't be checked now",
    "error": "Service unavailable",
}


def client_address(scope: Scope) -> Caller:
    """The client's address, as the server that runs the application tells it."""
    client = scope.get("client")
    try:
        # The zone of a link-local address says nothing about whose it is.
        return Caller(ip=client[0].partition("%")[0] if client else None)
    except ValueError:
        raise ConfigurationError("the server tells no address of the client: pass identify=") from None


class QuotadMiddleware:
    """Asks the service at `url` before each request and WebSocket, and answers 429 itself where that says no.

    - `identify`: who calls, from the ASGI scope: a user id, a `Caller`, or `None` for somebody who is not limited. By
      default the client's address. It must go by what was verified: each id that can be made up is a fresh quota.
    - `items`: how many things the request carries, taken as 1 to 1,000,000. By default 1.
    - `lease`: a request holds one of its caller's slots for requests while it is answered. A WebSocket always holds
      one of those for WebSockets.
    - `exclude`: paths that are not limited, each with all beneath it.
    - `on_unavailable`: what becomes of a request where the service does not answer, or refuses to: `"allow"`, or
      `"deny"`, by 503.
    - `retry`: a check carries a `request_id`, so that it can be sent again when its connection breaks. Without one, a
      service on Redis can answer busy callers from blocks that it reserved.
    - `renew_every`: seconds between renewals of a lease, which lasts 60.
    - `timeout`, `max_connections`, `verify`: as of `AsyncQuotad`.
    """

    def __init__(
        self,
        app: ASGIApp,
        url: str,
        api_key: str,
        *,
        identify: Identify = client_address,
        items: Callable[[Scope], int] | None = None,
        lease: bool = False,
        exclude: Iterable[str] = (),
        on_unavailable: Literal["allow", "deny"] = "allow",
        retry: bool = True,
        renew_every: float = LEASE_SECONDS / 3,
        timeout: float = 0.25,
        max_connections: int = 100,
        verify: Any = True,
    ) -> None:
        if on_unavailable not in ("allow", "deny"):
            raise ValueError('on_unavailable must be "allow" or "deny"')
        self.app = app
        self._quotad = AsyncQuotad(url, api_key, timeout=timeout, max_connections=max_connections, verify=verify)
        self._identify = identify
        self._items = items
        self._leases = _LEASES if lease else {"websocket": _LEASES["websocket"]}
        self._excluded = tuple(path.rstrip("/") for path in exclude)
        self._denies = on_unavailable == "deny"
        self._retry = retry
        self._renew_every = renew_every
        self._quiet_until = 0.0
        self._refusals_told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
            return
        if scope["type"] not in _LEASES or self._is_excluded(scope["path"]):
            await self.app(scope, receive, send)
            return
        try:
            decision = await self._decide(scope)
        except QuotadError as error:
            self._tell(error)
            if self._denies:
                await _refuse(503, [(b"retry-after", b"1")], json.dumps(_UNAVAILABLE).encode(), scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        if decision is None:
            await self.app(scope, receive, send)
        elif decision.allowed:
            await self._admit(decision, scope, receive, send)
        else:
            await _refuse(429, _encoded(decision), decision.body, scope, receive, send)

    async def _decide(self, scope: Scope) -> Decision | None:
        """`None` for a caller who is not limited."""
        caller = self._identify(scope)
        if inspect.isawaitable(caller):
            caller = await caller
        if caller is None:
            return None
        check = Check(
            caller if isinstance(caller, Caller) else Caller(user_id=caller),
            endpoint=_endpoint(scope["path"]),
            method=scope.get("method", "GET")[:_METHOD_MAX_CHARS],
            items=min(max(self._items(scope), 1), _ITEMS_MAX) if self._items else None,
            lease=self._leases.get(scope["type"]),
            # Never one that the client names: it would be charged once for whatever it sends in a minute.
            request_id=secrets.token_hex(16) if self._retry else None,
        )
        return await self._quotad.check(check)

    async def _admit(self, decision: Decision, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, with the decision's headers on what it answers and the lease held until it has."""
        lease = self._quotad.hold(decision.lease_id, renew_every=self._renew_every) if decision.lease_id else None

        async def answer(message: Message) -> None:
            if message["type"] in _STARTS:
                ours = _encoded(decision)
                names = {name for name, _ in ours}
                theirs = [header for header in message.get("headers", ()) if bytes(header[0]).lower() not in names]
                message = {**message, "headers": [*theirs, *ours]}
            elif lease and _is_last(message):
                # Before the client knows that it may send the next.
                await lease.release()
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            if lease:
                await lease.release()

    def _is_excluded(self, path: str) -> bool:
        return any(path == excluded or path.startswith(f"{excluded}/") for excluded in self._excluded)

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._quotad.aclose()
            await send(message)

        return closing

    def _tell(self, error: QuotadError) -> None:
        """Each refusal once; that the service is away, once a minute."""
        what = "refused" if self._denies else "let pass unchecked"
        if isinstance(error, ConfigurationError):
            if str(error) not in self._refusals_told and len(self._refusals_told) < _REFUSALS_TOLD_MAX:
                self._refusals_told.add(str(error))
                logger.error("quotad can't be asked like this, requests are %s: %s", what, error)
        elif (now := asyncio.get_running_loop().time()) >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            logger.warning("quotad does not answer, requests are %s: %s", what, error)


def _endpoint(path: str) -> str:
    """The path as the service takes it, whatever the client made of it; rules of costs go by how it begins."""
    escaped = _NOT_OF_A_PATH.sub(lambda odd: quote(odd[0]), path if path.startswith("/") else f"/{path}")
    return escaped.encode("utf-8", "replace")[:_PATH_MAX_BYTES].decode("utf-8", "ignore")


def _is_last(message: Message) -> bool:
    if message["type"] in _BODIES:
        return not message.get("more_body", False)
    return bool(message["type"] == "websocket.close")


def _encoded(decision: Decision) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in decision.headers]


async def _refuse(status: int, headers: Headers, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in the application's place. A WebSocket is refused before it is accepted."""
    prefix = "http.response"
    if scope["type"] == "websocket":
        await receive()
        prefix = "websocket.http.response"
        if prefix not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    length = str(len(body)).encode()
    headers = [*headers, (b"content-type", b"application/problem+json"), (b"content-length", length)]
    await send({"type": f"{prefix}.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
