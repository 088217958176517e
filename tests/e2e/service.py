"""A real `trainyard up` in a folder of its own, and the command line as a person uses it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
STOP_S = 45.0
START_S = 90.0
"""On a machine that many share; seconds on one that does nothing else."""


@dataclass
class Service:
    """A supervisor process, its folder, and the command line that talks to it."""

    home: Path
    process: subprocess.Popen
    environment: dict[str, str]

    def trainyard(self, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command against this service; its exit code is checked."""
        done = run_trainyard(self.environment, *arguments)
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def state(self) -> dict:
        return json.loads((self.home / "up.json").read_text())

    def process_id(self, name: str) -> int | None:
        return next((row["pid"] for row in self.state()["processes"] if row["name"] == name), None)

    def http(self) -> httpx.Client:
        key = (self.home / "credentials").read_text().strip()
        return httpx.Client(
            base_url=self.state()["url"], headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
        )

    def logs(self) -> str:
        """The ends of all logs, for a failed assertion."""
        files = sorted((self.home / "logs").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in files)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def run_trainyard(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)


def environment_of(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    return {**kept, "TRAINYARD_HOME": str(home), "TRAINYARD_CONFIG": str(home / "credentials")}


def start(home: Path, **settings: str) -> Service:
    """`trainyard up` on a free port, ready when it says so; `settings` are those of TRAINYARD_..."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = environment_of(home) | {f"TRAINYARD_{name.upper()}": value for name, value in settings.items()}
    with (home / "up.out").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--port", "0"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    service = Service(home, process, environment)
    wait_until(lambda: is_ready(service), f"ready:\n{(home / 'up.out').read_text()}", START_S)
    return service


def is_ready(service: Service) -> bool:
    assert service.process.poll() is None, (service.home / "up.out").read_text() + service.logs()
    return (
        (service.home / "up.json").exists()
        and service.state()["pid"] == service.process.pid
        and service.state()["ready"]
    )


def wait_until(truth, what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not truth():
        assert time.monotonic() < deadline, f"after {timeout_s} s not {what}"
        time.sleep(0.05)


def processes_of(home: Path) -> dict[int, str]:
    """Every live process that was started for a home folder, by its environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"TRAINYARD_HOME={home}".encode() in environment and state != "Z":
            found[int(folder.name)] = command
    return found
