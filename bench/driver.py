"""What the benches share: processes on loopback, each on a core, and wrk on another.

Settings by environment: ROUNDS (3), SECONDS (6, of each measurement), CONNECTIONS (64), and the service's own, as QUOTAD_WORKERS.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS", "6"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "64"))
KEY = "a-key-for-measurements-of-enough-characters"
TICKS = os.sysconf("SC_CLK_TCK")


def need(*programs):
    """Ends where a program is missing and can't be installed."""
    needed = subprocess.run([ROOT / "scripts/need", *programs])
    if needed.returncode != 0:
        sys.exit(needed.returncode)


def build(*what):
    """The release, and what else cargo is told to build; where it lies."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "quotad", *what], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process on the first core that listens on a port; its threads' CPU time is counted."""

    def __init__(self, command, port, environment=None, output=None):
        cores = sorted(os.sched_getaffinity(0))
        # The service would refuse what is meant for tests.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUOTAD_")}
        self.port = port
        self.child = subprocess.Popen(
            ["taskset", "-c", str(cores[0]), *command], stdout=output, stderr=output,
            env={**inherited, **(environment or {})})
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.child.poll() is not None:
                    break
                time.sleep(0.05)
        sys.exit(f"did not start: {' '.join(map(str, command))}")

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()


class Redis(Server):
    """What it says of itself: its CPU, and how many scripts it ran."""

    def info(self, section):
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            line.sendall(f"INFO {section}\r\n".encode())
            reply = line.makefile("rb")
            text = reply.read(int(reply.readline()[1:])).decode()
        return dict(row.split(":", 1) for row in text.splitlines() if ":" in row)

    def cpu_seconds(self):
        info = self.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def calls(self):
        stats = self.info("commandstats")
        rows = [stats.get(f"cmdstat_{name}", "calls=0") for name in ("evalsha", "eval", "publish")]
        return sum(int(row.split(",")[0].removeprefix("calls=")) for row in rows)


class Case:
    """One kind of load on one server."""

    def __init__(self, name, server, path, redis=None, batch=1, connections=CONNECTIONS, pause=0, users=10000, zipf=False):
        self.name, self.server, self.path, self.redis, self.batch = name, server, path, redis, batch
        self.connections = connections
        self.vars = {"BENCH_KEY": KEY, "BENCH_BATCH": str(batch), "BENCH_USERS": str(users), "BENCH_PAUSE_MS": str(pause)}
        if zipf:
            self.vars["BENCH_ZIPF"] = "1"
        self.runs = []

    def drive(self, seconds):
        """Checks a second; p50, p99 and p99.9 in ms; CPU of the server and of Redis in µs a check; calls of Redis a check."""
        cores = sorted(os.sched_getaffinity(0))
        redis = self.redis
        before = self.server.cpu_seconds()
        redis_before = (redis.cpu_seconds(), redis.calls()) if redis else (0, 0)
        out = subprocess.run(
            ["taskset", "-c", str(cores[-1]), "wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "-s",
             str(ROOT / "bench/check.lua"), f"http://127.0.0.1:{self.server.port}{self.path}"],
            env={**os.environ, **self.vars}, capture_output=True, text=True, check=True)
        result = next(line for line in out.stdout.splitlines() if line.startswith("RESULT"))
        requests, duration, p50, p99, p999, refused = map(int, result.split()[1:])
        if refused:
            sys.exit(f"{refused} of {requests} requests to {self.path} were not answered with 200")
        checks = requests * self.batch
        cpu = (self.server.cpu_seconds() - before) / checks * 1e6
        redis_cpu = (redis.cpu_seconds() - redis_before[0]) / checks * 1e6 if redis else 0
        calls = (redis.calls() - redis_before[1]) / checks if redis else 0
        return checks / (duration / 1e6), p50 / 1000, p99 / 1000, p999 / 1000, cpu, redis_cpu, calls


class Bench:
    """Servers that are started for a bench, in a folder of their own, and stopped with it."""

    def __init__(self, target):
        self.target = target

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.log = self.stack.enter_context(open(self.folder / "log", "w"))
        return self

    def __exit__(self, *ended):
        return self.stack.__exit__(*ended)

    def start(self, kind, *arguments, **options):
        server = kind(*arguments, output=self.log, **options)
        self.stack.callback(server.stop)
        return server

    def quotad(self, name, **settings):
        """The service with one worker and one shard, and limits that nobody reaches."""
        port = free_port()
        settings = {"WORKERS": "1", "SHARDS": "1", "ENTERPRISE_TIER_LIMIT_HOUR": "1000000000",
                    "ENTERPRISE_TIER_LIMIT_DAY": "1000000000", **settings}
        settings = {f"QUOTAD_{key}": os.environ.get(f"QUOTAD_{key}", value) for key, value in settings.items()}
        settings |= {"QUOTAD_ADMIN_KEY": KEY, "QUOTAD_LISTEN": f"127.0.0.1:{port}", "QUOTAD_DATA_DIR": str(self.folder / name)}
        return self.start(Server, [self.target / "quotad"], port, environment=settings)


def take_turns(cases, rounds=ROUNDS, seconds=SECONDS):
    """Warms every case up, then measures them one after another, round by round."""
    for case in cases:
        case.drive(1)
    for _ in range(rounds):
        for case in cases:
            case.runs.append(case.drive(seconds))
