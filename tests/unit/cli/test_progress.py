"""What is known of a running job."""

from cli.jobs.progress import Progress


def metrics(step: int, split: str = "train", **values: float | None) -> dict:
    return {"seq": step, "type": "metrics", "time": 0.0, "step": step, "split": split, "values": values}


def started(total_steps: int) -> dict:
    return {"seq": 1, "type": "started", "time": 0.0, "message": "", "data": {"total_steps": total_steps}}


def test_the_line_tells_step_loss_speed_and_what_is_left() -> None:
    progress = Progress()
    progress.take(started(400))
    progress.take(metrics(40, loss=3.21, tokens_per_s=12345.6, eta_s=80.0))
    assert progress.line() == "step 40/400  loss 3.2100  12,346 tok/s  ETA 1m20s"


def test_the_last_step_has_nothing_left() -> None:
    progress = Progress(total_steps=2)
    progress.take(metrics(2, loss=1.0, eta_s=0.0))
    assert progress.line() == "step 2/2  loss 1.0000"


def test_a_loss_that_is_not_a_number_is_not_drawn() -> None:
    progress = Progress()
    progress.take(metrics(1, loss=2.0))
    progress.take(metrics(2, loss=None))
    assert progress.losses == {1: 2.0}


def test_a_step_that_was_trained_again_counts_once() -> None:
    progress = Progress()
    for step, loss in ((1, 3.0), (2, 2.0), (2, 2.5)):
        progress.take(metrics(step, loss=loss))
    assert progress.losses == {1: 3.0, 2: 2.5}


def test_a_held_out_loss_is_worth_a_sentence() -> None:
    progress = Progress(total_steps=5)
    assert progress.take(metrics(5, "eval", eval_loss=2.5)) == "step 5: held-out loss 2.5000"
    assert "eval 2.5000" in progress.line()


def test_a_warning_is_told_as_one() -> None:
    record = {"seq": 1, "type": "log", "time": 0.0, "level": "warn", "message": "3 rows were cut"}
    assert Progress().take(record) == "warn: 3 rows were cut"


def test_the_bar_fills_with_the_run() -> None:
    progress = Progress(total_steps=4)
    progress.take(metrics(1, loss=1.0))
    assert progress.bar(8) == "━━╌╌╌╌╌╌"
