"""Data to begin with, over HTTP."""

from pathlib import Path

import pytest

from tests.integration.api.live import Live, error, served, upload


def test_every_sample_is_taken_in_as_it_is_and_its_job_is_planned(live: Live):
    """What a newcomer's first clicks do."""
    samples = live.mine.get("/v1/samples").json()["data"]
    assert [(sample["id"], sample["purpose"]) for sample in samples] == [("pretrain", "pretrain"), ("sft", "fine-tune")]
    for sample in samples:
        content = live.mine.get("/v1/samples/content", params={"sample": sample["id"]}).content
        assert len(content) == sample["bytes"]
        taken = upload(live.mine, content, sample["purpose"], sample["filename"])
        assert taken.status_code == 201, taken.text
        spec = sample["spec"] | {"training_file": taken.json()["id"]}
        made = live.mine.post("/v1/jobs", json=spec)
        assert made.status_code == 201 or "no model" in made.text, made.text


@pytest.mark.parametrize("wanted", ["broken", "../README.md", "eval", ""])
def test_nothing_but_samples_is_handed_out(live: Live, wanted: str):
    assert live.mine.get("/v1/samples/content", params={"sample": wanted}).status_code == 404


def test_a_service_without_its_clone_has_no_samples(live: Live, tmp_path: Path):
    with served(tmp_path, live.database.url, examples_dir=tmp_path / "nowhere") as alone:
        assert alone.mine.get("/v1/samples").json()["data"] == []
        assert error(alone.mine.get("/v1/samples/content?sample=sft"), 404)["code"] == "sample_not_found"
