"""Has each case come from an address of its own, as if a proxy handed it on: bad credentials are limited by address."""

import ipaddress
import itertools

import schemathesis

NUMBERS = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.headers is not None:
        # A /64 each, of those that documentation has to itself.
        case.headers["X-Forwarded-For"] = str(ipaddress.IPv6Address((0x2001_0DB8 << 96) + (next(NUMBERS) << 64)))
