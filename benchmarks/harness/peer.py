"""MLflow's tracking server as the peer: in its own environment, on SQLite, configured to be as fast as it can be."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness.processes import answers, free_port, running, wait_until

VERSION = "3.17.0"
_ENVIRONMENT_DIR = Path(__file__).resolve().parents[2] / ".bench" / f"mlflow-{VERSION}"
# Neither telemetry nor the consumers of its job queue count against it.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def install() -> None:
    """Create the environment once."""
    done = _ENVIRONMENT_DIR / ".installed"
    if done.exists():
        return
    print(f"installing mlflow {VERSION} into {_ENVIRONMENT_DIR} (once, about a minute)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", _ENVIRONMENT_DIR], check=True)
    subprocess.run([_ENVIRONMENT_DIR / "bin" / "pip", "install", "-qq", f"mlflow=={VERSION}"], check=True)
    done.touch()


@contextmanager
def serve(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the server and yield its process and port: one worker process, no access log, key check or artifact proxy."""
    folder.mkdir()
    port, log = free_port(), folder / "mlflow.log"
    command = [
        _ENVIRONMENT_DIR / "bin" / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", str(folder / "artifacts"),
        "--no-serve-artifacts", "--uvicorn-opts", "--no-access-log --log-level warning",
    ]  # fmt: skip
    with running(command, log=log, environment=_QUIET) as process:
        wait_until(lambda: answers(port, "/health"), process, log, limit_s=300.0)
        yield process, port
