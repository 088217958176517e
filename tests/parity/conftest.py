"""The closing table of what was compared, and a setting that must be there before torch is imported."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Agrees = Callable[[str, int, float, float], None]


class Line(NamedTuple):
    what: str
    steps: int
    difference: float
    tolerance: float


_LINES: list[Line] = []


@pytest.fixture
def agrees() -> Agrees:
    """Puts a comparison into the table, and fails when the difference is over the tolerance."""

    def compare(what: str, steps: int, difference: float, tolerance: float) -> None:
        _LINES.append(Line(what, steps, difference, tolerance))
        assert difference <= tolerance, f"{what}: {difference:.3g} is over {tolerance:.3g}"

    return compare


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.parity.bases import save_base  # torch: not before the settings above

    return save_base(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="session")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.parity.bases import save_adapter  # torch: not before the settings above

    return save_adapter(tmp_path_factory.mktemp("adapter") / "adapter", llama)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _LINES:
        return
    terminalreporter.section("parity")
    width = max(len(line.what) for line in _LINES)
    terminalreporter.line(f"{'what':<{width}}  {'steps':>5}  {'max relative difference':>23}  {'tolerance':>9}")
    for line in _LINES:
        mark = "" if line.difference <= line.tolerance else "  OVER"
        terminalreporter.line(
            f"{line.what:<{width}}  {line.steps:>5}  {line.difference:>23.2e}  {line.tolerance:>9.1e}{mark}"
        )
