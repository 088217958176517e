"""A running service with a small base model, and the environments of the packages."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.e2e.service import ROOT, Service, start

BASE = {
    "kind": "pretrain",
    "suffix": "tiny",
    "model": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "tokenizer": {"vocab_size": 400},
    "training_file": "./text.txt",
    "hyperparameters": {"max_steps": 4, "per_device_train_batch_size": 1, "max_length": 512},
}
VERSIONS = ("1.109.1", "2.54.0", "3.52.0")


@dataclass
class Place:
    """Where the packages are pointed at."""

    service: Service
    url: str
    key: str
    model: str

    def environment(self) -> dict[str, str]:
        return {"TRAINYARD_URL": self.url, "TRAINYARD_KEY": self.key, "TRAINYARD_MODEL": self.model}


def python_of(version: str) -> Path:
    """The interpreter of the environment with that package."""
    found = ROOT / f".conformance/openai-{version}/bin/python"
    assert found.exists(), "make conformance makes the environments of the packages"
    return found


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text((ROOT / "examples/shakespeare.txt").read_text()[:40_000])
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    service = start(folder / "home", webhook_networks="127.0.0.0/8")  # the packages' own receivers are on this machine
    try:
        job = service.trainyard("jobs", "create", "-f", folder / "base.yaml", "--follow", "--json").stdout
        assert json.loads(job)["status"] == "succeeded"
        yield Place(service, service.state()["url"], (service.home / "credentials").read_text().strip(), "tiny")
    finally:
        service.stop()
