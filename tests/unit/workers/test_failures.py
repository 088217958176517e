"""What the end of an engine means."""

import signal
from pathlib import Path

import pytest

from engine.errors import EXIT_DATA, EXIT_DIVERGED, EXIT_MEMORY, EXIT_OK, FailureClass
from engine.events import Failed
from workers.failures import RETRIED, classify, classify_error, end_of, for_want_of_memory


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.mark.parametrize(
    ("exit_code", "failure", "code"),
    [
        (-signal.SIGKILL, FailureClass.WORKER_LOST, "engine_killed"),
        (-signal.SIGTERM, FailureClass.WORKER_LOST, "engine_terminated"),
        (-signal.SIGSEGV, FailureClass.BUG, "engine_crashed"),
        (EXIT_OK, FailureClass.BUG, "engine_ended_early"),
        (1, FailureClass.BUG, "engine_crashed"),
        (EXIT_DATA, FailureClass.DATA_ERROR, "data_or_spec"),
        (EXIT_MEMORY, FailureClass.OUT_OF_MEMORY, "out_of_memory"),
        (EXIT_DIVERGED, FailureClass.DIVERGED, "diverged"),
        (130, FailureClass.WORKER_LOST, "engine_interrupted"),
    ],
)
def test_an_engine_that_said_nothing_is_judged_by_its_exit_code(
    exit_code: int, failure: FailureClass, code: str, log: Path
) -> None:
    judged = classify(exit_code, None, log)
    assert (judged.failure, judged.code, judged.exit_code) == (failure, code, exit_code)
    assert judged.message
    assert judged.mend
    assert "tried again" not in judged.mend  # it is shown when that is over


def test_what_the_kernel_killed_for_want_of_memory_is_told_what_would_take_less(log: Path) -> None:
    killed = classify(-signal.SIGKILL, None, log)
    judged = for_want_of_memory(killed, "tuning.method=qlora (0.50 GiB)")
    assert (judged.failure, judged.code) == (FailureClass.OUT_OF_MEMORY, "out_of_memory")
    assert (judged.exit_code, "tuning.method=qlora" in judged.mend) == (-signal.SIGKILL, True)
    assert "per_device_train_batch_size" in for_want_of_memory(killed, None).mend
    refused = classify(EXIT_DATA, None, log)
    assert for_want_of_memory(refused, None) == refused
    terminated = classify(-signal.SIGTERM, None, log)  # the kernel does not end a process so
    assert for_want_of_memory(terminated, None) == terminated


def test_a_crash_names_its_signal(log: Path) -> None:
    assert "SIGSEGV" in classify(-signal.SIGSEGV, None, log).message


def test_what_the_engine_said_itself_counts_before_its_exit_code(log: Path) -> None:
    told = Failed(seq=9, time=1.0, failure=FailureClass.DIVERGED, code="loss_nan", message="NaN", mend="Lower it.")
    judged = classify(1, told, log)
    assert judged[:4] == (FailureClass.DIVERGED, "loss_nan", "NaN", "Lower it.")


def test_the_last_words_of_a_silent_engine_are_told(log: Path) -> None:
    log.write_text("Traceback\n  File x\nImportError: no module named y\n")
    assert classify(1, None, log).message.endswith("Traceback | File x | ImportError: no module named y")


def test_the_last_words_are_cut_at_their_beginning(log: Path) -> None:
    log.write_text("x" * 100_000 + "\nthe end\n")
    words = end_of(log)
    assert len(words) <= 600
    assert words.endswith("the end")


@pytest.mark.parametrize(
    "secret",
    ["ty-" + "a" * 43, "postgresql+psycopg://someone:hunter2hunter2@host/db", "hf_" + "A" * 34],
)
def test_secrets_are_taken_out_of_the_last_words(secret: str, log: Path) -> None:
    log.write_text(f"cannot use {secret} here\n")
    words = end_of(log)
    assert secret not in words
    assert "hunter2" not in words
    assert "[hidden]" in words


def test_a_log_of_broken_bytes_can_be_told(log: Path) -> None:
    log.write_bytes(b"\xff\x00bad\n")
    assert "bad" in end_of(log)
    assert "\x00" not in end_of(log)


def test_only_failures_that_another_attempt_may_mend_are_retried() -> None:
    assert {FailureClass.WORKER_LOST, FailureClass.BUG} == RETRIED


def test_a_mistake_of_the_worker_is_a_bug_and_names_the_error() -> None:
    judged = classify_error(KeyError("checkpoints"))
    assert judged.failure is FailureClass.BUG
    assert "KeyError: 'checkpoints'" in judged.message
