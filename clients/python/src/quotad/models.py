"""What is asked and what is answered, with the names of the service's own API."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Literal

LeaseKind = Literal["request", "websocket"]
Json = Mapping[str, Any]

_UNFIT_FOR_AN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_USER_ID_MAX_CHARS = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is charged: exactly one of a user and an address. Raises `ValueError` for an id that can't be one.

    `user_id`: 1 to 128 characters, none of them a control character. `tier` stands in the place of the service's own.
    """

    user_id: str | None = None
    ip: str | None = None
    tier: str | None = None

    def __post_init__(self) -> None:
        if (self.user_id is None) == (self.ip is None):
            raise ValueError("exactly one of user_id and ip is required")
        if self.ip is not None:
            ipaddress.ip_interface(self.ip)
        elif self.user_id is not None:
            fits = 1 <= len(self.user_id) <= _USER_ID_MAX_CHARS and not _UNFIT_FOR_AN_ID.search(self.user_id)
            if not fits:
                raise ValueError("user_id must be 1 to 128 characters without control characters")

    def to_json(self) -> dict[str, Any]:
        return _present({"user_id": self.user_id, "ip": self.ip, "tier": self.tier})


@dataclass(frozen=True, slots=True)
class Check:
    """Has this caller room for `items` calls of `endpoint`? `request_id`: a repeat within 60 s is charged once."""

    caller: Caller
    endpoint: str | None = None
    method: str | None = None
    items: int | None = None
    lease: LeaseKind | None = None
    request_id: str | None = None
    dry_run: bool = False
    explain: bool = False

    def to_json(self) -> dict[str, Any]:
        asked = {
            "endpoint": self.endpoint,
            "method": self.method,
            "items": self.items,
            "lease": self.lease,
            "request_id": self.request_id,
            "dry_run": self.dry_run or None,
            "explain": self.explain or None,
        }
        return {**self.caller.to_json(), **_present(asked)}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit as it stands. One that is not enforced is counted, and never denies."""

    name: str
    limit: int
    used: int
    remaining: int
    reset_at: datetime
    enforce: bool = True

    @classmethod
    def from_json(cls, data: Json) -> Limit:
        return cls(**{**_known(cls, data), "reset_at": _time(data["reset_at"])})


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a check.

    `retry_after` is in whole seconds; `None` where waiting can't help, or nothing was denied. `headers` are those that
    a client should see, and `body` is the answer as it came, for a denial problem+json; both are empty in a batch.
    """

    allowed: bool
    subject: str
    tier: str
    cost: int
    limits: tuple[Limit, ...]
    denied_by: str | None
    retry_after: int | None
    lease_id: str | None
    source: str
    explanation: Json | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    @classmethod
    def from_json(cls, data: Json, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> Decision:
        limits = tuple(Limit.from_json(limit) for limit in data["limits"])
        return cls(**{**_known(cls, data), "limits": limits, "headers": headers, "body": body})


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """Stands in the place of a check of a batch that could not be decided."""

    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot that is held until it is released or expires; `in_use` and `limit` count slots of its kind."""

    lease_id: str
    kind: LeaseKind
    in_use: int
    limit: int
    expires_at: datetime

    @classmethod
    def from_json(cls, data: Json) -> Lease:
        return cls(**{**_known(cls, data), "expires_at": _time(data["expires_at"])})


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a user's quota is used. Without an hourly or a daily limit its three fields are `None`."""

    user_id: str
    tier: str
    requests_hour_limit: int | None
    requests_hour_used: int | None
    requests_hour_remaining: int | None
    requests_day_limit: int | None
    requests_day_used: int | None
    requests_day_remaining: int | None
    reset_at: datetime | None
    quota_exceeded: bool
    concurrent_requests_limit: int
    concurrent_requests_used: int
    override: Json | None
    limits: tuple[Limit, ...]

    @classmethod
    def from_json(cls, data: Json) -> Quota:
        reset_at = data["reset_at"] and _time(data["reset_at"])
        limits = tuple(Limit.from_json(limit) for limit in data["limits"])
        return cls(**{**_known(cls, data), "reset_at": reset_at, "limits": limits})


def _present(asked: Json) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _known(cls: type[Any], data: Json) -> dict[str, Any]:
    """The fields that the class has: a later service may send more."""
    return {known.name: data[known.name] for known in fields(cls) if known.name in data}


def _time(text: str) -> datetime:
    """A time in UTC as the service writes it. Python 3.10 reads neither `Z` nor any number of digits of a second."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    microsecond = int(fraction[:6].ljust(6, "0"))
    return datetime.fromisoformat(whole).replace(microsecond=microsecond, tzinfo=timezone.utc)
