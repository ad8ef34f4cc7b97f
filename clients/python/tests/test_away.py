"""The service is stopped, slow, or refuses to be asked; and what the line to it is used for."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import StartApp, StartQuotad
from servers import Line, Quotad, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

StartLine = Callable[[Quotad], Line]


@pytest.mark.parametrize(("mode", "status"), [("allow", 200), ("deny", 503)])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_requests_go_on_or_not_while_it_is_away_and_limits_come_back_with_it(
    start_quotad: StartQuotad, start_app: StartApp, how: str, mode: str, status: int
) -> None:
    quotad = start_quotad(free_tier_limit_hour="3")
    app = start_app(quotad, on_unavailable=mode, lease=True, timeout=0.25)
    until(lambda: app.get("/plain").status_code == 200 and quotad.used("42") >= 1, "a first answer")

    quotad.freeze() if how == "frozen" else quotad.stop()
    began = time.monotonic()
    answers = [app.get("/plain", user="away") for _ in range(4)]
    # A frozen service would be waited for without end; four waits of a quarter of a second are far below this.
    assert time.monotonic() - began < 10
    assert {answer.status_code for answer in answers} == {status}
    assert all("RateLimit" not in answer.headers for answer in answers)
    if mode == "deny":
        assert answers[0].headers["Content-Type"] == "application/problem+json"
        assert answers[0].headers["Retry-After"] == "1"
        assert answers[0].json()["status"] == 503
        with pytest.raises(InvalidStatus) as refused, connect(app.url.replace("http", "ws") + "/ws", proxy=None):
            pass
        assert refused.value.response.status_code == 503
    # Not each time: on a busy machine the first answer may have been too late, and that long ago.
    assert 1 <= app.log().count("quotad does not answer") < 4

    quotad.thaw() if how == "frozen" else quotad.start()
    until(lambda: "RateLimit" in app.get("/plain", user="back").headers, "limits")
    until(lambda: app.get("/plain", user="back").status_code == 429, "a denial")


@pytest.mark.parametrize(("mode", "status"), [("allow", 200), ("deny", 503)])
def test_a_key_that_is_refused_is_told_once(
    start_quotad: StartQuotad, start_app: StartApp, mode: str, status: int
) -> None:
    app = start_app(start_quotad(), key="qd_nobody_0123456789abcdef", on_unavailable=mode)
    assert {app.get("/plain").status_code for _ in range(3)} == {status}
    assert app.log().count("quotad can't be asked like this") == 1
    assert "401 from /api/v2/check" in app.log()
    assert "qd_nobody" not in app.log()


def test_a_tier_that_does_not_exist_is_told_once(start_quotad: StartQuotad, start_app: StartApp) -> None:
    app = start_app(start_quotad(), on_unavailable="deny")
    assert {app.get("/plain", x_tier="gold").status_code for _ in range(3)} == {503}
    assert app.get("/plain").status_code == 200
    assert app.log().count("422 from /api/v2/check: tier: there is no such tier") == 1


def test_what_is_no_quotad_is_told(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    other = start_app(quotad)
    app = start_app(quotad, url=other.url, key="any", on_unavailable="deny")
    assert app.get("/plain").status_code == 503
    assert "/api/v2/check was not answered as quotad does" in app.log() or "405 from" in app.log()


def test_connections_are_kept_and_bounded(
    start_quotad: StartQuotad, start_app: StartApp, start_line: StartLine
) -> None:
    quotad = start_quotad(free_tier_limit_hour="1000")
    line = start_line(quotad)
    app = start_app(quotad, url=line.url, max_connections=4, lease=True)
    for _ in range(30):
        assert app.get("/plain").status_code == 200
    assert line.connections == 1
    with ThreadPoolExecutor(30) as pool:
        users = [str(user) for user in range(60)]
        answers = list(pool.map(lambda user: app.get("/plain", user=user), users))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= line.connections <= 4


def test_a_check_whose_answer_is_lost_is_sent_again_and_charged_once(
    start_quotad: StartQuotad, start_app: StartApp, start_line: StartLine
) -> None:
    quotad = start_quotad()
    line = start_line(quotad)
    app = start_app(quotad, url=line.url, lease=True)
    line.swallow_next_answer = True
    answer = app.get("/plain")
    assert answer.headers["X-RateLimit-Remaining"] == "99"
    assert line.connections == 2
    assert quotad.used("42") == 1
    assert quotad.leases("42") == [], "the slot that was taken is the one that was given back"


def test_without_an_id_it_is_not_sent_again(
    start_quotad: StartQuotad, start_app: StartApp, start_line: StartLine
) -> None:
    quotad = start_quotad()
    line = start_line(quotad)
    app = start_app(quotad, url=line.url, retry=False, on_unavailable="deny")
    line.swallow_next_answer = True
    assert app.get("/plain").status_code == 503
    assert line.connections == 1
    assert quotad.used("42") == 1


def test_connections_that_a_restart_closed_cost_no_request(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    app = start_app(quotad, on_unavailable="deny")
    assert app.get("/plain").status_code == 200
    quotad.stop()
    quotad.start()
    answer = app.get("/plain")
    assert answer.status_code == 200
    assert answer.headers["X-RateLimit-Remaining"] == "98", "and its counts are kept"
