"""Which stage of ZeRO a run goes on with that left the choice to the engine."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.checkpoint import Progress
from engine.data.stream import Cursor
from engine.dist import choice
from engine.dist.ranks import Ranks
from engine.jobs import JOB_SPEC
from engine.journal import Journal
from tests import runs

SPEC: Any = JOB_SPEC.validate_python(runs.sft_spec())


def saved(folder: Path, **told: int) -> Path:
    progress = asdict(Progress(step=2, cursor=Cursor(2, ()), **told))
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "progress.json").write_text(json.dumps(progress))
    return folder


def test_as_many_processes_go_on_divided_as_they_were(tmp_path):
    start = saved(tmp_path / "step-00000002", processes=2, zero_stage=2)
    with closing(Journal(tmp_path / "events.jsonl")) as journal:
        session: Any = SimpleNamespace(ranks=Ranks(0, 2), start=start, journal=journal)
        assert choice._stage(session, SPEC) == 2
    (told,) = runs.events(tmp_path, "log")
    assert (told["code"], told["data"]["zero_stage"]) == ("parallel_kept", 2)


@pytest.mark.parametrize("told", [{"processes": 4, "zero_stage": 2}, {}], ids=["of four", "of before this was saved"])
def test_another_number_of_them_decides_anew(tmp_path, told):
    session: Any = SimpleNamespace(ranks=Ranks(0, 2), start=saved(tmp_path / "step-00000002", **told))
    assert choice._kept_stage(session) is None
