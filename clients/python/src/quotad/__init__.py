"""Asks a quotad service whether a caller has room: an ASGI middleware, and the plain client beneath it."""

from .client import AsyncQuotad, HeldLease
from .errors import ConfigurationError, QuotadError, QuotaExceeded, Unavailable
from .middleware import QuotadMiddleware, client_address
from .models import Caller, Check, CheckFailed, Decision, Lease, LeaseKind, Limit, Quota

__all__ = [
    "AsyncQuotad",
    "Caller",
    "Check",
    "CheckFailed",
    "ConfigurationError",
    "Decision",
    "HeldLease",
    "Lease",
    "LeaseKind",
    "Limit",
    "Quota",
    "QuotaExceeded",
    "QuotadError",
    "QuotadMiddleware",
    "Unavailable",
    "client_address",
]
