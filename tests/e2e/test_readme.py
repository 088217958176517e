"""The README's quickstart, run as it is written: each of the three ways submits the same job and brings its adapter down."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests import readme
from tests.e2e.service import ROOT, Service

SHAPE = "model={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2}"
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}
UNLIKE = {"id", "training_file"}


@pytest.fixture(scope="module")
def base(service: Service) -> None:
    """Make the base model of the quickstart, in a small shape."""
    small = ("--set", SHAPE, "--set", "hyperparameters.max_steps=2", "--set", "tokenizer.vocab_size=400")
    service.trainyard("jobs", "create", "-f", ROOT / "examples/pretrain.yaml", *small, "--follow")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the examples, cut to a few rows and steps."""
    examples = tmp_path / "examples"
    examples.mkdir()
    rows = (ROOT / "examples/gsm8k_train.jsonl").read_bytes().splitlines(keepends=True)[:32]
    (examples / "gsm8k_train.jsonl").write_bytes(b"".join(rows))
    (examples / "sft.yaml").write_text(shortened((ROOT / "examples/sft.yaml").read_text(), "max_steps: 60"))
    return tmp_path


def shortened(program: str, setting: str) -> str:
    assert setting in program
    return program.replace(setting, setting.replace("60", "2"))


def here(program: str, service: Service) -> str:
    """Point a program of the README to this service and its key."""
    places = {
        "http://127.0.0.1:8642": service.state()["url"],
        "~/.config/trainyard/credentials": str(service.home / "credentials"),
    }
    for written, meant in places.items():
        assert written in program
        program = program.replace(written, meant)
    return program


def run(service: Service, folder: Path, *command: str) -> str:
    environment = service.environment | {
        "PATH": f"{Path(sys.executable).parent}:{service.environment['PATH']}",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{service.logs()}"
    return done.stdout


def newest_spec(service: Service) -> dict:
    (job,) = json.loads(service.trainyard("jobs", "ls", "--kind", "sft", "--limit", "1", "--json").stdout)
    assert (job["status"], job["spec"]["suffix"]) == ("succeeded", "gsm8k")
    return {name: value for name, value in job["spec"].items() if name not in UNLIKE}


def names_in(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return set(tar.getnames())


def test_the_three_ways_submit_one_job_and_bring_its_adapter_down(service: Service, base: None, clone: Path) -> None:
    run(service, clone, "bash", "-e", "-c", readme.quickstart("CLI"))
    assert {path.name for path in (clone / "gsm8k").iterdir()} >= ADAPTER
    specs = [newest_spec(service)]

    assert shutil.which("curl"), "curl is not installed"
    script = here(shortened(readme.quickstart("curl"), '"max_steps": 60'), service)
    if shutil.which("jq") is None:
        script = script.replace(
            "jq -r .id", f"{sys.executable} -c 'import json, sys; print(json.load(sys.stdin)[\"id\"])'"
        )
    told = run(service, clone, "bash", "-e", "-c", script)
    assert '"succeeded"' in told
    assert told.rstrip().endswith("data: [DONE]")
    assert names_in(clone / "gsm8k.tar") >= ADAPTER
    specs.append(newest_spec(service))

    (clone / "gsm8k.tar").unlink()
    assert run(service, clone, sys.executable, "-c", here(readme.quickstart("Python"), service)) == "succeeded\n"
    assert names_in(clone / "gsm8k.tar") >= ADAPTER
    specs.append(newest_spec(service))
    assert specs[0] == specs[1] == specs[2]
