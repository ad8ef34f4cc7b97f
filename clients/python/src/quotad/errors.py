"""Why an answer could not be had, or was no."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import Decision


class QuotadError(Exception):
    """What this package raises."""


class Unavailable(QuotadError):
    """The service did not answer in time, could not be reached, or said that it can't answer now."""


class ConfigurationError(QuotadError):
    """The service refuses to be asked like this (400, 401, 403, 422), or is no quotad: asking again won't help."""


class QuotaExceeded(QuotadError):
    """No slot was free. `decision` says which limit is meant and how long to wait."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"the limit `{decision.denied_by}` of {decision.subject} has no room for this")
        self.decision = decision
