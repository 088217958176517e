"""A model from a folder, brought by the command line and tuned."""

import json
from pathlib import Path

import yaml

from tests import runs
from tests.e2e.service import Service


def test_a_qwen2_from_a_folder_is_imported_and_tuned(service: Service, tmp_path: Path) -> None:
    folder = runs.save_base(tmp_path / "qwen", "qwen2")
    (folder / "README.md").write_text("# not needed")
    told = service.trainyard("models", "import", folder, "--name", "qwen", "--licence", "apache-2.0")
    assert told.stdout == "qwen/1\n"
    assert "README.md  left out" in told.stderr
    shown = json.loads(service.trainyard("models", "show", "qwen", "--json").stdout)
    assert (shown["licence"], shown["lineage"]["family"]) == ("apache-2.0", "qwen2")
    runs.write_rows(tmp_path / "rows.jsonl", runs.answers(40))
    spec = runs.sft_spec() | {"model": "qwen", "suffix": "qwen-tuned", "training_file": "./rows.jsonl"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    job = json.loads(service.trainyard("jobs", "create", "-f", tmp_path / "job.yaml", "--follow", "--json").stdout)
    assert job["status"] == "succeeded", job
    assert {row["kind"] for row in job["artifacts"]} >= {"adapter"}
    service.trainyard("adapters", "pull", "qwen-tuned", "-o", tmp_path / "pulled")
    (tmp_path / "key.pem").write_text(service.trainyard("adapters", "signing-key").stdout)
    verified = service.trainyard("adapters", "verify", tmp_path / "pulled", "--key", tmp_path / "key.pem")
    assert verified.stdout == "qwen-tuned/1\n"
    assert "on qwen/1" in verified.stderr
    assert json.loads(service.trainyard("adapters", "show", "qwen-tuned", "--json").stdout)["licence"] == "apache-2.0"
    whole = tmp_path / "whole"
    merged = json.loads(service.trainyard("adapters", "merge", "qwen-tuned", "-o", whole, "--json").stdout)
    assert (merged["into"], merged["dtype"]) == ("original", "float32")
    assert (
        service.trainyard("models", "import", whole, "--name", "whole", "--licence", "apache-2.0").stdout == "whole/1\n"
    )
    service.trainyard("adapters", "gguf", "qwen-tuned", "-o", tmp_path / "tuned.gguf", "--type", "f32")
    assert (tmp_path / "tuned.gguf").stat().st_size > (whole / "model.safetensors").stat().st_size
    written = service.trainyard("models", "gguf", "qwen", "-o", tmp_path / "qwen.gguf", "--type", "f16", "--json")
    assert json.loads(written.stdout)["size_bytes"] == (tmp_path / "qwen.gguf").stat().st_size
