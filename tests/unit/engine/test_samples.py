"""The answers of a model in training are written in batches no larger than those of the training."""

from typing import Any

from engine import samples
from engine.generation.generate import generate
from tests import runs

ASKED = {"prompts": ["the cat sees", "what is a dog?"], "max_new_tokens": 30}


def test_prompts_are_answered_a_few_at_a_time_where_batches_are_small(tmp_path, monkeypatch):
    """As many as have the tokens of a training batch, with the answers that they have all together."""
    taken: list[int] = []

    def generated(*given: Any, rows_at_once: int) -> Any:
        taken.append(rows_at_once)
        return generate(*given, rows_at_once=rows_at_once)

    monkeypatch.setattr(samples, "generate", generated)
    told: list[list[Any]] = []
    for size in (1, 8):
        given = runs.sft_spec(per_device_train_batch_size=size, gradient_accumulation_steps=1)
        root = runs.sft_run(tmp_path / str(size), spec=given | {"samples": ASKED})
        with runs.opened(root) as session:
            training: Any = session.spec
            samples.write_samples(session, training, step=0)
        told.append([(event["greedy"], event["sampled"]) for event in runs.events(root, "sample")])
    assert taken[:2] == [1, 1]
    assert min(taken[2:]) > len(ASKED["prompts"])
    assert told[0] == told[1]
