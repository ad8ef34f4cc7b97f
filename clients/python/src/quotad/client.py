"""The service's HTTP API, as far as an application needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from .errors import ConfigurationError, QuotadError, QuotaExceeded, Unavailable
from .models import Caller, Check, CheckFailed, Decision, Json, Lease, LeaseKind, Quota

T = TypeVar("T")
Taken = TypeVar("Taken", Decision, Lease)

# How long the service keeps a lease that a check took.
LEASE_SECONDS = 60

# The service closes a connection that was idle for 5 s: one that it is about to close is not used again.
_KEEPALIVE_SECONDS = 4.0

_HANDED_ON = ("ratelimit", "ratelimit-policy", "retry-after")


class AsyncQuotad:
    """A client of one service, to be used on one event loop, and closed by `aclose` or `async with`.

    `api_key` is of the role `service`; `quota` of a named user needs `admin`. `timeout`: seconds that a call may take
    as a whole, waiting for a connection and a second try included. At most `max_connections` are open; they are kept.

    Every call raises `Unavailable` or `ConfigurationError` where there is no answer. A call whose connection breaks is
    tried once more if that can't charge twice: a check that has a `request_id`, and whatever takes nothing.
    """

    def __init__(
        self, url: str, api_key: str, *, timeout: float = 0.25, max_connections: int = 100, verify: Any = True
    ) -> None:
        if httpx.URL(url).scheme not in ("http", "https"):
            raise ValueError(f"the address of quotad must start with http:// or https://: {url}")
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"X-API-Key": api_key},
            verify=verify,
            # The bound is on the whole call, below; these would each be on a part of it.
            timeout=None,  # noqa: S113
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
            # A proxy that the environment names for the way out is not for this.
            trust_env=False,
        )
        self._background: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> AsyncQuotad:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Waits for leases that are being given back, and closes the connections."""
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._http.aclose()

    async def check(self, check: Check) -> Decision:
        """A denial is an answer, not an exception. A lease that was taken is the caller's to release."""
        checking = self._check(check)
        return await (checking if check.lease is None else self._taken(checking))

    async def check_batch(self, checks: Sequence[Check]) -> list[Decision | CheckFailed]:
        """1 to 1000 checks, answered in their order; those of one caller are decided in it."""

        def of(result: Json) -> Decision | CheckFailed:
            error = result.get("error") if "allowed" not in result else None
            return CheckFailed(error["status"], error["detail"]) if error else Decision.from_json(result)

        body = {"checks": [check.to_json() for check in checks]}
        repeatable = all(check.request_id is not None for check in checks)
        answer = _judged(await self._send("POST", "/api/v2/check/batch", body, repeatable=repeatable))
        return _read(answer, lambda data: [of(result) for result in data["results"]])

    @asynccontextmanager
    async def lease(self, kind: LeaseKind, caller: Caller, *, ttl: int = LEASE_SECONDS) -> AsyncIterator[Lease]:
        """Holds a slot for as long as the block runs; raises `QuotaExceeded` where none is free.

        It is renewed, and should the process die it expires after `ttl` seconds.
        """
        lease = await self._taken(self._take(kind, caller, ttl))
        held = self.hold(lease.lease_id, ttl=ttl)
        try:
            yield lease
        finally:
            await held.release()

    def hold(self, lease_id: str, *, ttl: int = LEASE_SECONDS, renew_every: float | None = None) -> HeldLease:
        """Renews a lease for `ttl` seconds each `renew_every` (a third of it), until it is released."""
        return HeldLease(self, lease_id, ttl, ttl / 3 if renew_every is None else renew_every)

    async def renew(self, lease_id: str, ttl: int = LEASE_SECONDS) -> bool:
        """Whether it was still held."""
        return await self._change_lease("PUT", lease_id, {"ttl_seconds": ttl})

    async def release(self, lease_id: str) -> bool:
        """Whether it was still held."""
        return await self._change_lease("DELETE", lease_id)

    async def quota(self, user_id: str | None = None) -> Quota:
        """Of a user, or of the one whose key this is."""
        path = "/api/v2/users/me/quota" if user_id is None else f"/api/v2/admin/quotas/{quote(user_id, safe='')}"
        return _read(_judged(await self._send("GET", path, repeatable=True)), Quota.from_json)

    async def _check(self, check: Check) -> Decision:
        repeatable = check.request_id is not None
        answer = _judged(await self._send("POST", "/api/v2/check", check.to_json(), repeatable=repeatable))
        return _decision(answer)

    async def _take(self, kind: LeaseKind, caller: Caller, ttl: int) -> Lease:
        body = {**caller.to_json(), "kind": kind, "ttl_seconds": ttl}
        answer = _judged(await self._send("POST", "/api/v2/leases", body, repeatable=False))
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise QuotaExceeded(_decision(answer))
        return _read(answer, Lease.from_json)

    async def _change_lease(self, method: str, lease_id: str, body: Json | None = None) -> bool:
        answer = await self._send(method, f"/api/v2/leases/{quote(lease_id, safe='')}", body, repeatable=True)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        _judged(answer)
        return True

    async def _taken(self, taking: Coroutine[Any, Any, Taken]) -> Taken:
        """Goes on when the caller is cancelled: a lease that the service has granted by then is given back."""
        task = self._spawn(taking)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._give_back)
            raise

    def _give_back(self, taking: asyncio.Task[Taken]) -> None:
        if not taking.cancelled() and not taking.exception() and (lease_id := taking.result().lease_id):
            self._spawn(self._release_quietly(lease_id))

    async def _release_quietly(self, lease_id: str) -> None:
        # What can't be given back now expires by itself.
        with suppress(QuotadError):
            await self.release(lease_id)

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # The event loop alone would not keep a task from being collected.
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _send(self, method: str, path: str, body: Json | None = None, *, repeatable: bool) -> httpx.Response:
        async def tried() -> httpx.Response:
            try:
                return await self._http.request(method, path, json=body)
            except httpx.TransportError:
                if not repeatable:
                    raise
                return await self._http.request(method, path, json=body)

        try:
            return await asyncio.wait_for(tried(), self._timeout)
        except asyncio.TimeoutError:
            raise Unavailable(f"no answer within {self._timeout} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(str(error) or type(error).__name__) from error


class HeldLease:
    """A slot that is held: renewed in the background until it is released."""

    def __init__(self, client: AsyncQuotad, lease_id: str, ttl: int, renew_every: float) -> None:
        self._client = client
        self._lease_id = lease_id
        self._renewal = asyncio.create_task(self._renew(ttl, renew_every))
        self._release: asyncio.Task[None] | None = None

    async def release(self) -> None:
        """Gives the slot back, also when the caller is cancelled meanwhile; a second call waits for the first."""
        if self._release is None:
            self._renewal.cancel()
            self._release = self._client._spawn(self._client._release_quietly(self._lease_id))
        await asyncio.shield(self._release)

    async def _renew(self, ttl: int, renew_every: float) -> None:
        held = True
        while held:
            await asyncio.sleep(renew_every)
            # The lease outlasts a renewal that fails, and the next may not.
            with suppress(QuotadError):
                held = await self._client.renew(self._lease_id, ttl)


def _judged(answer: httpx.Response) -> httpx.Response:
    """An answer that decides; raises what any other is."""
    status = answer.status_code
    if answer.is_success or status == httpx.codes.TOO_MANY_REQUESTS:
        return answer
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "no problem details"
    error = Unavailable if answer.is_server_error or status == httpx.codes.REQUEST_TIMEOUT else ConfigurationError
    raise error(f"{status} from {answer.url.path}: {detail}")


def _decision(answer: httpx.Response) -> Decision:
    headers = tuple(
        (name, value) for name, value in answer.headers.items() if name in _HANDED_ON or name.startswith("x-ratelimit-")
    )
    return _read(answer, lambda data: Decision.from_json(data, headers, answer.content))


def _read(answer: httpx.Response, read: Callable[[Json], T]) -> T:
    try:
        return read(answer.json())
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{answer.url.path} was not answered as quotad does") from error
