"""The main road over HTTP with a real worker: upload, pretrain, tune, evaluate, pull, load in PEFT."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.service import ROOT, Service

EXAMPLES = ROOT / "examples"
BASE = {
    "kind": "pretrain",
    "suffix": "tiny",
    "model": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "tokenizer": {"vocab_size": 400},
    "training_file": "./text.txt",
    "hyperparameters": {"max_steps": 6, "per_device_train_batch_size": 1, "max_length": 512},
}
TUNED = {
    "kind": "sft",
    "suffix": "answers",
    "model": "tiny",
    "training_file": "./train.jsonl",
    "tuning": {"method": "lora", "r": 4, "lora_alpha": 8},
    "hyperparameters": {"max_steps": 6, "per_device_train_batch_size": 2, "max_length": 512, "learning_rate": 1e-2},
}
EVAL = {"kind": "eval", "model": "answers", "eval_file": "./heldout.jsonl", "evaluation": {"max_length": 512}}

LOAD = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
adapter, base = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
tokens = tokenizer("To be", return_tensors="pt")
written = model.generate(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], max_new_tokens=4, do_sample=False)
assert written.shape[1] > tokens["input_ids"].shape[1]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small shares of the example data, and specs that name them by path."""
    there = tmp_path_factory.mktemp("specs")
    (there / "text.txt").write_text((EXAMPLES / "shakespeare.txt").read_text()[:40_000])
    for name, source, rows in (("train", "gsm8k_train", 40), ("heldout", "gsm8k_heldout", 8)):
        lines = (EXAMPLES / f"{source}.jsonl").read_text().splitlines(keepends=True)[:rows]
        (there / f"{name}.jsonl").write_text("".join(lines))
    for name, spec in (("base", BASE), ("tuned", TUNED), ("eval", EVAL)):
        (there / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    return there


@pytest.fixture(scope="module")
def base(service: Service, folder: Path) -> dict:
    """The pretrained base, made once."""
    return run_job(service, folder / "base.yaml")


@pytest.fixture(scope="module")
def tuned(service: Service, folder: Path, base: dict) -> dict:
    """The adapter on that base, made once."""
    assert base["status"] == "succeeded"
    return run_job(service, folder / "tuned.yaml")


def run_job(service: Service, spec: Path) -> dict:
    return json.loads(service.trainyard("jobs", "create", "-f", spec, "--follow", "--json").stdout)


def test_a_model_is_pretrained_from_an_uploaded_text(base: dict) -> None:
    assert base["status"] == "succeeded"
    assert [(made["name"], made["version"]) for made in base["artifacts"] if made["kind"] == "model"] == [("tiny", 1)]


def test_following_a_job_shows_its_progress_off_a_terminal(service: Service, base: dict) -> None:
    told = service.trainyard("jobs", "logs", "-f", base["id"]).stderr
    assert "step 6/6  loss " in told
    assert "succeeded" in told
    assert "trainyard models pull tiny/1" in told


def test_every_step_has_its_figures(service: Service, base: dict) -> None:
    lines = service.trainyard("jobs", "metrics", base["id"], "--split", "train", "--jsonl").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert sorted(row["step"] for row in rows) == [1, 2, 3, 4, 5, 6]
    assert all(row["values"]["loss"] > 0 for row in rows)


def test_the_spend_of_a_job_is_that_of_its_attempt(service: Service, base: dict) -> None:
    report = json.loads(service.trainyard("spend", "--by", "kind", "--kind", "pretrain", "--json").stdout)
    (group,) = report["data"]
    assert (group["of"], group["attempts"] >= 1) == ("pretrain", True)
    assert group["worker_s"] > 0


def test_a_job_is_found_by_the_only_prefix_of_its_id(service: Service, base: dict) -> None:
    assert service.trainyard("jobs", "show", "-q", base["id"][:-1]).stdout.strip() == base["id"]


def test_an_unknown_id_ends_with_4(service: Service) -> None:
    service.trainyard("jobs", "show", "job-zzz", expect=4)


def test_base_and_adapter_are_evaluated_on_held_out_rows(service: Service, folder: Path, tuned: dict) -> None:
    assert tuned["status"] == "succeeded"
    told = service.trainyard("jobs", "create", "-f", folder / "eval.yaml", "--dry-run", "--json").stdout
    made = service.trainyard("jobs", "create", "--plan", json.loads(told)["id"], "--follow", "--json").stdout
    job = json.loads(made)
    plan = job["plan"]
    same = ("steps", "tokens", "trained_tokens", "flops")
    assert [plan["predicted"][name] for name in same] == [plan["actual"][name] for name in same]
    assert plan["predicted"]["peak_memory_bytes"] == pytest.approx(plan["actual"]["peak_memory_bytes"], rel=0.2)
    assert job["result"]["metrics"]["eval_loss"] > 0
    assert job["result"]["metrics"]["eval_bits_per_byte"] > 0
    rows = [line.split("\t") for line in service.trainyard("evals", "show", job["id"]).stdout.splitlines()]
    assert next(row[2] for row in rows if row[1] == "loss") == f"{job['result']['metrics']['eval_loss']:.4g}"


def test_what_a_model_wrote_is_downloaded_row_by_row(
    service: Service, folder: Path, tmp_path: Path, tuned: dict
) -> None:
    assert tuned["status"] == "succeeded"
    generate = ("--set", "evaluation={task: generate, max_new_tokens: 8, max_length: 256}")
    job = service.trainyard("jobs", "create", "-f", folder / "eval.yaml", *generate, "--follow", "--json").stdout
    (file_id,) = json.loads(job)["result_files"]
    service.trainyard("files", "download", file_id, "-o", tmp_path / "items.jsonl")
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [item["line"] for item in items] == list(range(1, 9))
    assert items[0]["reference"] == "18"


def test_the_tokens_of_a_row_lost_what_the_row_lost_at_its_step(service: Service, tuned: dict) -> None:
    rows = json.loads(service.trainyard("jobs", "rows", tuned["id"], "1", "--json").stdout)
    (item,) = json.loads(service.trainyard("jobs", "tokens", tuned["id"], "1", "--json").stdout)
    assert item["line"] == rows[0]["line"]
    lost = sum(loss for loss, trained in zip(item["losses"], item["trained"], strict=True) if trained)
    assert abs(lost / rows[0]["labels"] - rows[0]["loss"]) < 1e-3 * rows[0]["loss"]


def test_pulled_base_and_adapter_load_in_peft_and_generate(service: Service, tmp_path: Path, tuned: dict) -> None:
    assert tuned["status"] == "succeeded"
    service.trainyard("adapters", "pull", "answers", "-o", tmp_path / "adapter")
    service.trainyard("models", "pull", "tiny/1", "-o", tmp_path / "base")
    command = [sys.executable, "-c", LOAD, tmp_path / "adapter", tmp_path / "base"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert loaded.returncode == 0, loaded.stderr


def test_a_second_pull_fetches_only_what_is_not_there_whole(service: Service, tmp_path: Path, tuned: dict) -> None:
    assert tuned["status"] == "succeeded"
    service.trainyard("adapters", "pull", "answers", "-o", tmp_path)
    config = tmp_path / "adapter_config.json"
    whole = config.read_bytes()
    config.write_bytes(whole[:-1])
    again = service.trainyard("adapters", "pull", "answers", "-o", tmp_path).stderr
    assert config.read_bytes() == whole
    assert "adapter_config.json" in again
    assert "adapter_model.safetensors" not in again


def test_a_checkpoint_is_found_by_its_job_and_pulled(service: Service, tmp_path: Path, base: dict) -> None:
    (newest, *_) = service.trainyard("checkpoints", "ls", "--job", base["id"], "-q").stdout.split()
    manifest = json.loads(service.trainyard("checkpoints", "pull", newest, "-o", tmp_path, "--json").stdout)
    signed = {"manifest.dsse.json"}
    assert {file["path"] for file in manifest["files"]} | signed == {
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    }


def test_a_cut_download_goes_on_where_it_ended(service: Service, tmp_path: Path, folder: Path) -> None:
    text = folder / "text.txt"
    file_id = service.trainyard("files", "upload", "-q", text).stdout.strip()
    target = tmp_path / "text.txt"
    target.with_name("text.txt.part").write_bytes(text.read_bytes()[:1000])
    service.trainyard("files", "download", file_id, "-o", target)
    assert target.read_bytes() == text.read_bytes()


def test_the_service_refuses_the_broken_example_with_line_and_column(service: Service) -> None:
    with service.http() as http, (EXAMPLES / "broken.jsonl").open("rb") as content:
        answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("broken.jsonl", content)})
    error = answer.json()["error"]
    assert answer.status_code in (400, 422)
    assert [fault["line"] for fault in error["errors"]][:3] == [2, 3, 5]
    assert error["errors"][1]["column"] == 54


def test_faulty_lines_can_be_left_out(service: Service) -> None:
    done = service.trainyard("files", "upload", "--skip-invalid", "--json", EXAMPLES / "broken.jsonl")
    assert json.loads(done.stdout)["row_count"] == 4


def test_an_unknown_model_ends_with_an_error_that_names_it(service: Service, folder: Path) -> None:
    refused = service.trainyard("jobs", "create", "-f", folder / "eval.yaml", "--set", "model=tinny", expect=65)
    assert "tinny" in refused.stderr


def test_an_unknown_key_is_told_with_what_was_meant(service: Service, folder: Path) -> None:
    refused = service.trainyard(
        "jobs", "create", "-f", folder / "base.yaml", "--set", "hyperparameters.learning_rat=0.1", expect=65
    )
    assert "learning_rate" in refused.stderr


def test_a_cancelled_job_ends_with_6(service: Service, folder: Path) -> None:
    many = ("--set", "hyperparameters.max_steps=100000")
    job_id = service.trainyard("jobs", "create", "-q", "-f", folder / "base.yaml", *many).stdout.strip()
    service.trainyard("jobs", "wait", job_id, "--timeout", "0", expect=7)
    service.trainyard("jobs", "cancel", job_id)
    service.trainyard("jobs", "wait", job_id, "--timeout", "60", expect=6)


def test_an_estimate_needs_no_model_and_no_gpu(service: Service):
    told = service.trainyard("estimate", "llama-3.1-70b", "--tuning", "qlora", "--gpus", "1", "--tokens", "1e9").stdout
    assert "GPU-hours\t" in told
    assert "fits\tyes\n" in told
    service.trainyard("estimate", "llama-9", "--tokens", "1e9", expect=65)
