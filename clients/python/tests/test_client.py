"""The plain client."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from conftest import StartQuotad
from servers import ADMIN_KEY

from quotad import (
    AsyncQuotad,
    Caller,
    Check,
    CheckFailed,
    ConfigurationError,
    Decision,
    Lease,
    Limit,
    QuotaExceeded,
    Unavailable,
)

pytestmark = pytest.mark.anyio
ALICE = Caller(user_id="alice/ü")


async def test_a_check_is_answered_with_its_limits(start_quotad: StartQuotad) -> None:
    service = start_quotad()
    async with AsyncQuotad(service.url, service.key, timeout=10) as quotad:
        check = Check(ALICE, endpoint="/api/v1/agents", method="GET", items=3, explain=True)
        assert (await quotad.check(Check(ALICE, items=100, dry_run=True))).allowed
        decision = await quotad.check(check)
        assert decision.allowed
        assert (decision.subject, decision.tier, decision.cost) == ("user:alice/ü", "free", 6)
        hour, day = decision.limits
        assert (hour.name, hour.limit, hour.used, hour.remaining, hour.enforce) == ("hour", 100, 6, 94, True)
        now = datetime.now(timezone.utc)
        assert now < hour.reset_at <= now + timedelta(hours=1)
        assert hour.reset_at <= day.reset_at
        assert decision.explanation is not None
        assert decision.explanation["tier_from"] == "default"

        denied = await quotad.check(Check(ALICE, items=95))
        assert not denied.allowed
        assert denied.denied_by == "hour"
        assert denied.retry_after is not None
        assert denied.source == "memory"
        address = await quotad.check(Check(Caller(ip="2001:db8:1:2:3::4"), request_id="r1"))
        assert address.subject == "ip:2001:db8:1:2::/64"


async def test_a_batch_is_answered_in_order(start_quotad: StartQuotad) -> None:
    service = start_quotad(free_tier_limit_hour="2")
    async with AsyncQuotad(service.url, service.key, timeout=10) as quotad:
        checks = [Check(ALICE), Check(Caller(user_id="bob", tier="none-such")), Check(ALICE), Check(ALICE)]
        first, bad, second, third = await quotad.check_batch(checks)
        assert isinstance(first, Decision)
        assert isinstance(second, Decision)
        assert isinstance(third, Decision)
        assert (first.allowed, second.allowed, third.allowed) == (True, True, False)
        assert bad == CheckFailed(422, "tier: there is no such tier")
        with pytest.raises(ConfigurationError, match="checks: must hold 1 to 1000 checks"):
            await quotad.check_batch([])


async def test_a_lease_is_held_for_its_block(start_quotad: StartQuotad) -> None:
    service = start_quotad(free_tier_concurrent="1")
    async with AsyncQuotad(service.url, service.key, timeout=10) as quotad:
        async with quotad.lease("websocket", ALICE, ttl=1) as lease:
            assert (lease.kind, lease.in_use, lease.limit) == ("websocket", 1, 1)
            with pytest.raises(QuotaExceeded, match="concurrent_websockets") as denied:
                async with quotad.lease("websocket", ALICE):
                    pass
            assert denied.value.decision.denied_by == "concurrent_websockets"
            until_expired = lease.expires_at - datetime.now(timezone.utc) + timedelta(seconds=0.5)
            await asyncio.sleep(until_expired.total_seconds())
            assert await quotad.renew(lease.lease_id), "it was renewed when it would have expired"
        assert not await quotad.release(lease.lease_id), "it is given back"
        assert not await quotad.renew(lease.lease_id)
        with pytest.raises(RuntimeError, match="of the block"):
            async with quotad.lease("request", ALICE):
                raise RuntimeError("of the block")
        assert service.leases("alice/ü") == []


async def test_a_lease_is_given_back_when_its_taking_is_cancelled(start_quotad: StartQuotad) -> None:
    service = start_quotad()
    async with AsyncQuotad(service.url, service.key, timeout=10) as quotad:
        service.freeze()
        taking = asyncio.create_task(quotad.check(Check(ALICE, lease="request")))
        await asyncio.sleep(0.2)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        service.thaw()
        until_used = service.admin.get("/api/v2/admin/quotas/alice%2F%C3%BC")
        assert until_used.json()["requests_hour_used"] == 1, "it was granted"
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if service.leases("alice/ü") == []:
                return
        pytest.fail("the slot is still held")


async def test_quotas_are_read(start_quotad: StartQuotad) -> None:
    service = start_quotad()
    async with AsyncQuotad(service.url, ADMIN_KEY, timeout=10) as quotad:
        await quotad.check(Check(ALICE))
        quota = await quotad.quota("alice/ü")
        assert (quota.user_id, quota.tier) == ("alice/ü", "free")
        assert (quota.requests_hour_limit, quota.requests_hour_used, quota.requests_hour_remaining) == (100, 1, 99)
        assert quota.reset_at == quota.limits[0].reset_at
        assert not quota.quota_exceeded
        made = service.admin.post("/api/v2/admin/keys", json={"name": "bob", "role": "user", "user_id": "bob"})
    async with AsyncQuotad(service.url, made.json()["key"], timeout=10) as bob:
        assert (await bob.quota()).user_id == "bob"
        with pytest.raises(ConfigurationError, match="403 from /api/v2/check"):
            await bob.check(Check(ALICE))


async def test_a_service_that_is_not_there_is_unavailable(start_quotad: StartQuotad) -> None:
    service = start_quotad()
    service.stop()
    async with AsyncQuotad(service.url, "any") as quotad:
        with pytest.raises(Unavailable):
            await quotad.check(Check(ALICE))


def test_times_are_read_with_any_number_of_digits() -> None:
    for text, microsecond in [("2026-11-23T08:00:00Z", 0), ("2026-11-23T08:00:00.0123456789Z", 12345)]:
        lease = Lease.from_json({"lease_id": "r", "kind": "request", "in_use": 1, "limit": 1, "expires_at": text})
        assert lease.expires_at == datetime(2026, 11, 23, 8, 0, 0, microsecond, tzinfo=timezone.utc)


def test_fields_of_a_later_service_are_passed_over() -> None:
    data = {"name": "hour", "limit": 1, "used": 0, "remaining": 1, "reset_at": "2026-11-23T08:00:00Z", "new": 1}
    assert Limit.from_json(data).remaining == 1


@pytest.mark.parametrize(
    "fields", [{}, {"user_id": "a", "ip": "::1"}, {"user_id": ""}, {"user_id": "a\n"}, {"ip": "testclient"}]
)
def test_who_can_be_nobody_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Caller(**fields)


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="must start with http"):
        AsyncQuotad("127.0.0.1:8080", "any")
