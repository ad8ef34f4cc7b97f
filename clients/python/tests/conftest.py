from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import App, Line, Quotad

StartQuotad = Callable[..., Quotad]
StartApp = Callable[..., App]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def within_one_hour() -> None:
    """Counts are of the running hour: none turns in the middle of a test."""
    left = 3600 - time.time() % 3600
    if left < 15:
        time.sleep(left)


@pytest.fixture
def start_quotad(tmp_path: Path) -> Iterator[StartQuotad]:
    started: list[Quotad] = []

    def start(**settings: str) -> Quotad:
        started.append(Quotad(tmp_path, **settings))
        return started[-1]

    yield start
    for quotad in started:
        quotad.stop()


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[StartApp]:
    started: list[App] = []

    def start(quotad: Quotad, *, url: str | None = None, key: str | None = None, **options: Any) -> App:
        started.append(App(tmp_path, url or quotad.url, key or quotad.key, **options))
        return started[-1]

    yield start
    for app in started:
        app.stop()


@pytest.fixture
def start_line() -> Iterator[Callable[[Quotad], Line]]:
    started: list[Line] = []

    def start(quotad: Quotad) -> Line:
        started.append(Line(quotad.port))
        return started[-1]

    yield start
    for line in started:
        line.close()
