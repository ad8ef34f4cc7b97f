"""Real servers for the tests: quotad, an application, and a line between them that can be watched and cut."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
ADMIN_KEY = "an-admin-key-for-tests-of-32-characters"


def until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Waits for it; the bound is on a test that hangs, not on what is tested."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that answers HTTP, and what it has logged."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str], ready: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{self.port}.log"
        self._command = [part.replace("PORT", str(self.port)) for part in command]
        self._environment = {name: value.replace("PORT", str(self.port)) for name, value in environment.items()}
        self._ready = ready
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = self._spawn(log)
        try:
            until(self._answers, f"{self._command[0]} to answer")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_text()

    def _spawn(self, log: IO[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            return httpx.get(self.url + self._ready, trust_env=False).is_success
        except httpx.TransportError:
            return False


class Quotad(Server):
    """The service, with embedded counters. `key` is that of an application, `admin` asks as an administrator."""

    def __init__(self, folder: Path, **settings: str) -> None:
        binary = os.environ.get("QUOTAD_BIN", str(REPOSITORY / "target/debug/quotad"))
        assert Path(binary).is_file(), f"{binary}: cargo build, or set QUOTAD_BIN"
        environment = {
            "QUOTAD_LISTEN": "127.0.0.1:PORT",
            "QUOTAD_DATA_DIR": str(folder / "data"),
            "QUOTAD_ADMIN_KEY": ADMIN_KEY,
        }
        environment |= {f"QUOTAD_{name.upper()}": value for name, value in settings.items()}
        super().__init__(folder, [binary], environment, "/health/ready")
        self.admin = httpx.Client(base_url=self.url, headers={"X-API-Key": ADMIN_KEY}, trust_env=False)
        made = self.admin.post("/api/v2/admin/keys", json={"name": "application", "role": "service"})
        self.key: str = made.raise_for_status().json()["key"]

    def quota(self, user: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.admin.get(f"/api/v2/admin/quotas/{user}").raise_for_status().json()
        return answer

    def used(self, user: str) -> int:
        return int(self.quota(user)["requests_hour_used"])

    def leases(self, user: str) -> list[dict[str, Any]]:
        answer = self.admin.get("/api/v2/admin/leases", params={"user_id": user}).raise_for_status()
        held: list[dict[str, Any]] = answer.json()["items"]
        return held

    def stop(self) -> None:
        super().stop()
        self.admin.close()
        self.admin = httpx.Client(base_url=self.url, headers={"X-API-Key": ADMIN_KEY}, trust_env=False)


class App(Server):
    """A FastAPI application under uvicorn, in a process of its own."""

    def __init__(self, folder: Path, url: str, key: str, **options: Any) -> None:
        command = [sys.executable, "-m", "uvicorn", "--factory", "application:make", "--app-dir", str(HERE)]
        environment = {
            "PATH": os.environ["PATH"],
            "TEST_URL": url,
            "TEST_KEY": key,
            "TEST_OPTIONS": json.dumps({"exclude": ["/health"], "timeout": 10, **options}),
        }
        super().__init__(folder, [*command, "--port", "PORT", "--log-level", "warning"], environment, "/health")
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def get(self, path: str, user: str = "42", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(path, headers={"X-User": user, **named})

    def open_gate(self, name: str) -> None:
        self.client.post(f"/health/gates/{name}").raise_for_status()

    def stop(self) -> None:
        self.client.close()
        super().stop()


class Line:
    """A TCP line to a server, that counts connections and can swallow an answer after it was given."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.swallow_next_answer = False
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for end in (self._listener, *self._open):
            _cut(end)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._join, args=(near,)))
                self._threads[-1].start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._to)) as far:
            self._open.add(near)
            asking = threading.Thread(target=self._pump, args=(near, far))
            asking.start()
            self._pump(far, near, answers=True)
            asking.join()
            self._open.discard(near)

    def _pump(self, source: socket.socket, sink: socket.socket, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                if answers and self.swallow_next_answer:
                    self.swallow_next_answer = False
                    break
                sink.sendall(part)
        _cut(source)
        _cut(sink)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
