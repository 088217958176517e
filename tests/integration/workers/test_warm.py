"""The engine that waits, and the processes around it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers.puppets import Puppets, finished, started
from tests.integration.workers.workplace import Workplace, alive, wait_until
from workers import tasks
from workers.process import EngineProcess
from workers.warm import WarmEngine


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[WarmEngine]:
    holder = WarmEngine(tmp_path / "warm.log", enabled=True)
    yield holder
    holder.close()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """One that the engine refuses, which is quick."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "job.json").write_text("{}")
    return path


def finish(engine: EngineProcess) -> int:
    wait_until(lambda: engine.poll() is not None, "the engine has ended", 60)
    code = engine.poll()
    assert code is not None
    return code


def test_a_waiting_engine_takes_the_job_and_its_log_moves_along(
    warm: WarmEngine, run_dir: Path, tmp_path: Path
) -> None:
    warm.prepare()
    wait_until(lambda: "ready" in (tmp_path / "warm.log").read_text(), "ready", 60)
    assert finish(warm.start(run_dir)) == 65
    assert '"failed"' in (run_dir / "events.jsonl").read_text()
    assert "ready" in (run_dir / "engine.log").read_text()
    assert not (tmp_path / "warm.log").exists()


def test_a_cold_engine_takes_the_job_when_the_waiting_one_has_died(warm: WarmEngine, run_dir: Path) -> None:
    warm.prepare()
    assert warm._waiting is not None
    warm._waiting.end()
    assert finish(warm.start(run_dir)) == 65


def test_without_warm_engines_none_waits(run_dir: Path, tmp_path: Path) -> None:
    holder = WarmEngine(tmp_path / "warm.log", enabled=False)
    holder.prepare()
    assert holder._waiting is None


def test_the_next_engine_is_got_ready_once_the_one_at_work_has_begun(workplace: Workplace) -> None:
    engines: Any = Puppets([started(), *finished(4)])
    slot = workplace.slot(engines)
    with workplace.claim(workplace.submit_tiny()) as lease:
        tasks.carry_out(slot, lease, threading.Event())
    assert engines.prepared == 1


def test_closing_ends_the_waiting_engine(warm: WarmEngine) -> None:
    warm.prepare()
    assert warm._waiting is not None
    pid = warm._waiting.pid
    warm.close()
    assert not alive(pid)


def test_an_engine_is_given_none_of_the_services_secrets(warm: WarmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_SECRET", "s3cret")
    monkeypatch.setenv("TRAINYARD_DATABASE_URL", "postgresql://someone:s3cret@host/db")
    warm.prepare()
    assert warm._waiting is not None
    assert b"s3cret" not in Path(f"/proc/{warm._waiting.pid}/environ").read_bytes()


def test_a_second_worker_of_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers import __main__ as entry
    from workers.settings import WorkerSettings

    monkeypatch.setattr(entry, "_NAME_WAIT_S", 0.3)
    settings = WorkerSettings(home=tmp_path, worker_name="same")
    with entry.hold_name(settings):
        with pytest.raises(SystemExit, match="TRAINYARD_WORKER_NAME"):
            entry.hold_name(settings)
        entry.hold_name(settings.model_copy(update={"worker_name": "other"})).close()
