"""What passes, what is denied, and what the client is told."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from conftest import StartApp, StartQuotad
from servers import until

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def test_a_hundred_requests_pass_and_the_next_is_denied(start_quotad: StartQuotad, start_app: StartApp) -> None:
    app = start_app(start_quotad())
    for left in range(99, -1, -1):
        answer = app.get("/plain")
        assert answer.status_code == 200
        assert answer.json() == {"path": "plain"}
        assert answer.headers["X-RateLimit-Limit"] == "100"
        assert answer.headers["X-RateLimit-Remaining"] == str(left)
        assert answer.headers["RateLimit"].startswith(f'"hour";r={left};t=')
        assert "Retry-After" not in answer.headers
    assert answer.headers["RateLimit-Policy"] == '"hour";q=100;w=3600, "day";q=1000;w=86400'

    denied = app.get("/plain")
    assert denied.status_code == 429
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert denied.headers["X-RateLimit-Limit"] == "100"
    assert denied.headers["X-RateLimit-Remaining"] == "0"
    reset, wait = int(denied.headers["X-RateLimit-Reset"]), int(denied.headers["Retry-After"])
    assert reset % 3600 == 0
    assert abs(time.time() + wait - reset) <= 2
    assert denied.headers["X-RateLimit-Retry-After"] == str(wait)
    problem = denied.json()
    assert problem["type"] == QUOTA_EXCEEDED
    assert problem["error"] == "Rate limit exceeded"
    assert problem["status"] == 429
    assert problem["violated-policies"] == ["hour"]
    assert problem["denied_by"] == "hour"
    assert problem["retry_after"] == wait

    assert app.get("/plain", user="43").status_code == 200, "nobody else is meant"


def test_paths_cost_what_the_service_says(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    app = start_app(quotad)
    for path, used in [("/plain", 1), ("/api/v1/agents/7?x=1", 3), ("/api/v1/batch", 8), ("/ws/rooms", 8)]:
        assert app.get(path).status_code == 200
        assert quotad.used("42") == used


def test_methods_are_told(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    costs = [{"path": "/things", "methods": ["POST"], "cost": 10}]
    quotad.admin.put("/api/v2/admin/endpoints", json={"costs": costs}).raise_for_status()
    app = start_app(quotad)
    app.get("/things")
    assert quotad.used("42") == 1
    app.client.post("/things", headers={"X-User": "42"})
    assert quotad.used("42") == 11


def test_a_batch_is_charged_for_each_of_its_items(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    app = start_app(quotad)
    assert app.get("/api/v1/batch", x_batch_size="19").status_code == 200
    assert quotad.used("42") == 95
    assert app.get("/api/v1/batch", x_batch_size="2").status_code == 429, "10 do not fit into 5"
    assert quotad.used("42") == 95
    never = app.get("/api/v1/batch", x_batch_size="99")
    assert never.status_code == 429
    assert "Retry-After" not in never.headers, "waiting can't help"


def test_the_tier_is_the_one_that_identify_names(start_quotad: StartQuotad, start_app: StartApp) -> None:
    app = start_app(start_quotad())
    assert app.get("/plain", x_tier="pro").headers["X-RateLimit-Limit"] == "1000"
    assert app.get("/plain").headers["X-RateLimit-Limit"] == "100"


def test_who_is_nobody_and_what_is_excluded_is_not_limited(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_limit_hour="1")
    app = start_app(quotad)
    for _ in range(3):
        for answer in (app.get("/plain", user="operator"), app.get("/health")):
            assert answer.status_code == 200
            assert "RateLimit" not in answer.headers
    assert app.get("/healthy").headers["X-RateLimit-Remaining"] == "0", "whole segments are excluded"
    assert app.get("/healthy").status_code == 429


def test_without_identify_the_address_is_limited(start_quotad: StartQuotad, start_app: StartApp) -> None:
    app = start_app(start_quotad(anonymous_limit_hour="2"), own=["default_identify"])
    answers = [app.get("/plain", user=str(user)) for user in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["subject"] == "ip:127.0.0.1"


def test_of_fifty_at_once_exactly_as_many_pass_as_may(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_limit_hour="20")
    app = start_app(quotad)
    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(answer.status_code for answer in pool.map(app.get, ["/plain"] * 50))
    assert statuses == {200: 20, 429: 30}
    assert quotad.used("42") == 20


ODD = [
    ("GET", "/a%0Ab", "1"),
    ("GET", "/a%3Fb%00", "1"),
    ("GET", "/%ff%ed%a0%80", "1"),
    ("GET", "/" + "ü/" * 5000, "1"),
    ("X" * 40, "/plain", "1"),
    ("GET", "/plain", "0"),
    ("GET", "/plain", "-3"),
    ("GET", "/plain", str(10**30)),
]


def test_nothing_a_client_writes_makes_its_check_fail(start_quotad: StartQuotad, start_app: StartApp) -> None:
    """A check that the service refused would let the request pass uncounted."""
    app = start_app(start_quotad(free_tier_limit_hour="1"))
    for user, (method, target, batch) in enumerate(ODD):
        headers = {"X-User": str(user), "X-Batch-Size": batch}
        answers = [app.client.request(method, target, headers=headers) for _ in range(2)]
        assert all("RateLimit" in answer.headers for answer in answers), (method, target, batch)
        assert answers[1].status_code == 429, (method, target, batch)
    assert "quotad can't be asked" not in app.log()


def test_an_escaped_path_costs_what_the_path_does(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad()
    app = start_app(quotad)
    assert app.get("/api/v1/%62atch").json() == {"path": "api/v1/batch"}
    assert quotad.used("42") == 5
    app.get("/api/v1/batch%3Fx/more")
    assert quotad.used("42") == 6, "an escaped question mark is a part of its segment"


def test_an_id_that_can_be_none_is_an_error_of_the_application(start_quotad: StartQuotad, start_app: StartApp) -> None:
    app = start_app(start_quotad())
    assert app.get("/plain", user="x" * 129).status_code == 500
    until(lambda: "user_id must be 1 to 128 characters" in app.log(), "it to be told")


def test_a_denial_is_what_the_service_answered(start_quotad: StartQuotad, start_app: StartApp) -> None:
    quotad = start_quotad(free_tier_limit_hour="0")
    app = start_app(quotad)
    own = quotad.admin.post("/api/v2/check", json={"user_id": "42"})
    handed_on = app.get("/plain")
    told = json.loads(own.content)
    assert handed_on.json().keys() == told.keys()
    assert handed_on.json()["limits"] == told["limits"]
