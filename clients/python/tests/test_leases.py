"""Slots: held while a request or a WebSocket runs, and freed however it ends."""

from __future__ import annotations

import socket
import threading
from contextlib import AbstractContextManager, ExitStack

import httpx
import pytest
from conftest import StartApp, StartQuotad
from servers import App, Quotad, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect


def in_use(quotad: Quotad, user: str = "42") -> int:
    return int(quotad.quota(user)["concurrent_requests_used"])


def open_socket(app: App, user: str = "42") -> AbstractContextManager[ClientConnection]:
    return connect(app.url.replace("http", "ws") + "/ws", additional_headers={"X-User": user}, proxy=None)


def test_requests_hold_slots_until_they_are_answered(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_concurrent="2")
    app = start_app(quotad, lease=True)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(app.get("/gated/one"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: in_use(quotad) == 2, "both to run")

    denied = app.get("/plain")
    assert denied.status_code == 429
    assert denied.json()["denied_by"] == "concurrent_requests"
    assert denied.headers["X-RateLimit-Limit"] == "2"
    assert app.get("/plain", user="43").status_code == 200
    assert quotad.used("42") == 2, "what was denied is not charged"

    app.open_gate("one")
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert in_use(quotad) == 0


def test_a_client_that_waits_for_each_answer_needs_one_slot(start_quotad: StartQuotad, start_app: StartApp) -> None:
    app = start_app(start_quotad(free_tier_concurrent="1"), lease=True)
    assert {app.get("/plain").status_code for _ in range(40)} == {200}


def test_a_client_that_goes_away_frees_its_slot(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_concurrent="1")
    app = start_app(quotad, lease=True)
    with app.client.stream("GET", "/stream", headers={"X-User": "42"}) as answer:
        parts = answer.iter_bytes()
        assert next(parts).startswith(b"part")
        assert in_use(quotad) == 1
        assert app.get("/plain").status_code == 429
    until(lambda: in_use(quotad) == 0, "the slot")
    assert app.get("/plain").status_code == 200


@pytest.mark.parametrize("path", ["/fails", "/cancelled"])
def test_a_handler_that_does_not_end_well_frees_its_slot(
    start_quotad: StartQuotad, start_app: StartApp, path: str
) -> None:
    quotad = start_quotad(free_tier_concurrent="1")
    app = start_app(quotad, lease=True)
    assert app.get(path).status_code == 500
    assert quotad.used("42") == 1
    until(lambda: in_use(quotad) == 0, "the slot")


def test_a_slot_is_renewed_while_its_request_runs(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    app = start_app(quotad, lease=True, renew_every=0.05)
    thread = threading.Thread(target=lambda: app.get("/gated/one"))
    thread.start()
    until(lambda: len(quotad.leases("42")) == 1, "it to run")
    first = quotad.leases("42")[0]["expires_at"]
    until(lambda: quotad.leases("42")[0]["expires_at"] > first, "a renewal")
    app.open_gate("one")
    thread.join()
    assert quotad.leases("42") == []


def test_requests_hold_no_slot_unless_asked_to(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_concurrent="0")
    assert start_app(quotad).get("/plain").status_code == 200


def test_open_websockets_are_limited(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_concurrent="2")
    app = start_app(quotad)
    with ExitStack() as open_sockets:
        first, second = (open_sockets.enter_context(open_socket(app)) for _ in range(2))
        assert first.response is not None
        assert first.response.headers["X-RateLimit-Limit"] == "100"
        with pytest.raises(InvalidStatus) as refused, open_socket(app):
            pass
        answer = refused.value.response
        assert answer.status_code == 429
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["X-RateLimit-Limit"] == "2"
        assert b'"denied_by":"concurrent_websockets"' in (answer.body or b"")
        with open_socket(app, user="43"):
            second.send("still there")
            assert second.recv() == "still there"
        assert quotad.used("42") == 0, "/ws costs nothing"

        first.close()
        until(lambda: len(quotad.leases("42")) == 1, "the slot of one that was closed")
        third = open_sockets.enter_context(open_socket(app))
        third.send("fail")
        until(lambda: len(quotad.leases("42")) == 1, "the slot of one that failed")
        second.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: quotad.leases("42") == [], "the slot of one that was cut")


def test_a_websocket_is_refused_by_a_server_without_the_extension(
    start_quotad: StartQuotad, start_app: StartApp
) -> None:
    app = start_app(start_quotad(free_tier_concurrent="0"), own=["plain"])
    with pytest.raises(InvalidStatus) as refused, open_socket(app):
        pass
    assert refused.value.response.status_code == 403
