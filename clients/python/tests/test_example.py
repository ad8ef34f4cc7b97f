"""The application of `examples/fastapi`, as its page says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
from conftest import StartQuotad
from servers import REPOSITORY, Server


def test_the_example_limits_by_token_and_by_address(start_quotad: StartQuotad, tmp_path: Path) -> None:
    quotad = start_quotad(anonymous_limit_hour="2")
    folder = str(REPOSITORY / "examples/fastapi")
    command = [sys.executable, "-m", "uvicorn", "--app-dir", folder, "app:app", "--port", "PORT"]
    environment = {
        "PATH": os.environ["PATH"],
        "QUOTAD_URL": quotad.url,
        "QUOTAD_KEY": quotad.key,
        "QUOTAD_TIMEOUT": "10",
    }
    app = Server(tmp_path, command, environment, "/health")

    def agents(token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{app.url}/api/v1/agents", headers=headers, trust_env=False)

    try:
        left = [agents("alice-token").headers["X-RateLimit-Remaining"] for _ in range(50)]
        assert (left[0], left[-1]) == ("98", "0")
        assert agents("alice-token").status_code == 429
        assert agents("bob-token").headers["X-RateLimit-Limit"] == "1000"
        assert [agents().status_code for _ in range(2)] == [200, 429]
        assert agents("made-up").json()["subject"] == "ip:127.0.0.1"
    finally:
        app.stop()
