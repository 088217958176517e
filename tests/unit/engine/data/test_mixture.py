"""Mixtures of files: their shares, the annealing tail, and what a spec may ask for."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from engine.data import source, training
from engine.data.corpus import Corpus, Document
from engine.data.mixture import Mixture, Share
from engine.data.stream import RowStream
from engine.jobs import JOB_SPEC, named_files, resolve, training_files
from engine.model.load import load_tokenizer
from engine.rowlog import NAME, rows_of_step
from tests import runs

STEPS = {"max_steps": 6, "max_length": 32, "per_device_train_batch_size": 4}


def corpus(first_line: int, documents: int, length: int) -> Corpus:
    return Corpus.of(
        [
            Document(first_line + at, np.full(length, 1, np.int32), np.ones(length, np.bool_), 1)
            for at in range(documents)
        ]
    )


def stream(*, annealing_from: int | None = None, packing: bool = True) -> RowStream:
    """Long documents weigh 3, short ones 1; the tail has others."""
    shares = (Share("long", corpus(0, 50, 31), 3.0), Share("short", corpus(1000, 80, 7), 1.0))
    tail = (Share("best", corpus(2000, 20, 11), 1.0),)
    return RowStream(
        Mixture(shares, tail), seed=3, row_tokens=64, step_rows=(4, 1), packing=packing, annealing_from=annealing_from
    )


def lines(of: RowStream, steps: int) -> list[tuple[int, ...]]:
    return [line for _ in range(steps) for line in (batch.lines for batch in of.next_step())]


@pytest.mark.parametrize("packing", [True, False])
def test_each_file_gives_its_share_of_the_tokens(packing):
    made = stream(packing=packing)
    for _ in range(100):
        made.next_step()
    counts = made.tokens_by_file()
    assert counts["tokens/long"] / (counts["tokens/long"] + counts["tokens/short"]) == pytest.approx(0.75, abs=0.01)


def test_with_the_weights_turned_round_the_shares_are_others():
    made = stream()
    made.sources[0].weight, made.sources[1].weight = made.sources[1].weight, made.sources[0].weight
    for _ in range(100):
        made.next_step()
    counts = made.tokens_by_file()
    assert counts["tokens/long"] < counts["tokens/short"] / 2


def test_each_file_of_a_mixture_has_epochs_of_its_own_with_every_document_once():
    made, seen = stream(), []
    while made.sources[1].place.epoch == 0:
        seen += [line for batch in made.next_step() for line in batch.lines if line >= 1000]
    once = seen[:80]
    assert sorted(once) == list(range(1000, 1080))


def test_a_mixture_set_to_a_cursor_goes_on_from_there():
    whole, fresh = stream(annealing_from=9), stream(annealing_from=9)
    for _ in range(5):
        whole.next_step()
    fresh.cursor = whole.cursor
    assert lines(fresh, 10) == lines(whole, 10)


def test_the_tail_holds_nothing_but_its_own_files():
    made = stream(annealing_from=4)
    before, after = lines(made, 4), lines(made, 4)
    assert max(line for batch in before for line in batch) < 2000
    assert min(line for batch in after for line in batch) >= 2000


def test_documents_of_a_batch_know_their_file():
    batch = stream().next_step()[0]
    assert [int(line >= 1000) for line in batch.lines] == list(batch.files)
    assert set(batch.files) == {0, 1}


def mixed(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "pretrain",
        "mixture": [{"file": "file-a", "weight": 3}, {"file": "file-b"}],
        "annealing": [{"file": "file-b"}],
        "hyperparameters": {**STEPS, "lr_scheduler_type": "wsd"},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training_file": "file-c"}, "one of the two"),
        ({"mixture": [], "annealing": []}, "training_file or mixture is required"),
        ({"mixture": [{"file": "file-a"}, {"file": "file-a"}]}, "names a file twice"),
        ({"hyperparameters": {"lr_scheduler_type": "wsd"}}, "needs hyperparameters.max_steps"),
        ({"hyperparameters": STEPS}, "lr_scheduler_type 'wsd'"),
        ({"mixture": [{"file": "file-a", "weight": 0}]}, "greater than 0"),
        (
            {"hyperparameters": {**STEPS, "lr_scheduler_type": "wsd", "long_rows": "drop"}},
            "a text over max_length continues",
        ),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        JOB_SPEC.validate_python(mixed(**changes))


def test_the_files_of_a_spec_are_named_with_their_places():
    spec = resolve(JOB_SPEC.validate_python(mixed(validation_file="file-v"))).model_dump(mode="json")
    assert [tuple(named) for named in named_files(spec)] == [
        ("validation_file", "validation", "file-v"),
        ("mixture[0].file", "train-0", "file-a"),
        ("mixture[1].file", "train-1", "file-b"),
        ("annealing[0].file", "annealing-0", "file-b"),
    ]


def mixed_run(root: Path, **hyperparameters: Any) -> Path:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    hyper = {**STEPS, "lr_scheduler_type": "wsd", "num_decay_steps": 2, "warmup_steps": 0, **hyperparameters}
    runs.write_job(root, mixed(model=shape, tokenizer={"vocab_size": 320}, hyperparameters=hyper))
    (root / "data").mkdir()
    for name, seed in (("train-0", 1), ("train-1", 2), ("annealing-0", 2)):
        (root / "data" / f"{name}.txt").write_text(runs.text(200, seed))
    return root


def test_a_run_on_a_mixture_tells_the_tokens_and_the_rows_of_each_file(tmp_path):
    root = mixed_run(tmp_path / "run")
    assert runs.carry_out(root) == 0
    values = [event["values"] for event in runs.events(root, "metrics") if event["split"] == "train"]
    assert values[3]["tokens/file-a"] / (values[3]["tokens"]) == pytest.approx(0.75, abs=0.08)
    assert values[5]["tokens/file-a"] == values[3]["tokens/file-a"], "the tail is file-b alone"
    assert values[5]["tokens/file-a"] + values[5]["tokens/file-b"] == values[5]["tokens"]
    spec = json.loads((root / "job.json").read_text())["spec"]
    with (root / NAME).open("rb") as log:
        places = [{training_files(spec)[row.file].path for row in rows_of_step(log, step)} for step in range(1, 7)]
    assert set.union(*places[:4]) == {"mixture[0].file", "mixture[1].file"}
    assert set.union(*places[4:]) == {"annealing[0].file"}


def test_a_tail_of_another_kind_is_no_spike_of_the_loss(tmp_path):
    hyper = {"max_steps": 40, "num_decay_steps": 10, "learning_rate": 0.01, "on_loss_spike": "stop"}
    root = mixed_run(tmp_path / "run", **hyper)
    rng = random.Random(0)
    lines = ("".join(rng.choices("qxzQXZ#@!", k=60)) + "\n" for _ in range(200))
    (root / "data" / "annealing-0.txt").write_text("".join(lines))
    assert runs.carry_out(root) == 0, runs.events(root)[-1]


def chats(root: Path, second: list[dict[str, Any]], *, max_steps: int = 1, **changes: Any) -> Path:
    """A job on two files of conversations, of which lines 1 and 2 of the first are long."""
    spec = runs.sft_spec(max_steps=max_steps, max_length=48)
    del spec["training_file"]
    files = {"mixture": [{"file": "file-a"}, {"file": "file-b"}], "validation_file": None}
    runs.write_job(root, {**spec, **files, **changes})
    long = {"prompt": "the cat sees", "completion": "a dog " * 60}
    runs.write_rows(root / "data" / "train-0.jsonl", [long, long, *runs.answers(20)])
    runs.write_rows(root / "data" / "train-1.jsonl", second)
    runs.save_base(root / "model")
    return root


def test_what_happens_to_rows_is_told_with_their_file(tmp_path):
    root = chats(tmp_path / "run", runs.answers(20))
    assert runs.carry_out(root) == 0
    (told,) = [event for event in runs.events(root, "log") if event["code"] == "rows_truncated"]
    assert told["message"] == "2 training rows cut to max_length 48 (file-a, lines 1, 2)"
    assert told["data"]["file"] == "file-a"


def test_a_file_without_anything_to_learn_is_named(tmp_path):
    unreached = {"prompt": "the cat sees " * 60, "completion": "a dog"}
    root = chats(tmp_path / "run", [unreached])
    assert runs.carry_out(root) == 65
    assert runs.events(root, "failed")[0]["message"].startswith("file-b: none of the 1 rows has a token")


def test_a_row_that_the_template_refuses_is_told_with_its_file_when_its_window_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WINDOW_BLOCKS", 1)
    monkeypatch.setattr(source, "BLOCK_BYTES", 500)
    refused = {"prompt": "refused", "completion": "a dog"}
    root = chats(
        tmp_path / "run", [*runs.answers(20), refused], max_steps=40, seed=1
    )  # of four blocks, the last comes last
    tokenizer = load_tokenizer(root / "model")
    refusal = "{% if messages[0]['content'] == 'refused' %}{{ raise_exception('not this one') }}{% endif %}"
    tokenizer.chat_template = refusal + str(tokenizer.chat_template)
    tokenizer.save_pretrained(root / "model")
    assert runs.carry_out(root) == 65
    assert runs.events(root, "started"), "the first windows were sound"
    message = runs.events(root, "failed")[0]["message"]
    assert message == "file-b: the model's chat template does not render line 21: not this one"


def test_held_out_rows_are_told_with_their_file(tmp_path):
    long = {"prompt": "the cat sees", "completion": "a dog " * 60}
    root = chats(tmp_path / "run", [long | {"prompt": str(number)} for number in range(40)], validation_file="auto")
    assert runs.carry_out(root) == 0
    told = [event for event in runs.events(root, "log") if " validation rows " in event["message"]]
    assert [event["data"]["file"] for event in told] == ["file-b"]
    assert "(file-b, lines " in told[0]["message"]


def test_a_file_whose_held_out_rows_have_nothing_to_score_is_named_and_the_others_are_scored(tmp_path):
    unreached = [{"prompt": f"{number} " + "the cat " * 60, "completion": "a dog"} for number in range(40)]
    root = chats(tmp_path / "run", [*runs.answers(1), *unreached], validation_file="auto")
    assert runs.carry_out(root) == 0
    (told,) = [event for event in runs.events(root, "log") if event["code"] == "validation_empty"]
    assert told["message"].startswith("nothing of file-b is held out: of the rows")
    assert told["data"]["file"] == "file-b"
    assert runs.events(root, "started")[0]["eval_rows"] > 0


def test_a_validation_file_that_cannot_be_scored_is_named(tmp_path):
    root = chats(tmp_path / "run", runs.answers(20), validation_file="file-v")
    unreached = [{"prompt": "the cat " * 60, "completion": "a dog"}]
    runs.write_rows(root / "data" / "validation.jsonl", unreached)
    assert runs.carry_out(root) == 65
    assert runs.events(root, "failed")[0]["message"].startswith("file-v: none of the 1 rows has a token")


def test_rows_on_the_same_line_of_two_files_count_as_two():
    assert Corpus.join([corpus(1, 3, 8), corpus(1, 2, 8)]).row_count() == 5
