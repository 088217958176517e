"""GET /v1/jobs/{id}/config: what a job runs with, and who chose it."""

from tests.integration.api.live import Live, pretrain_spec, published, submitted, text_file, upload


def origins(live: Live, **changes) -> dict[str, str]:
    return live.mine.get(f"/v1/jobs/{submitted(live, **changes)}/config").json()["origins"]


def test_a_value_is_told_as_set_auto_or_default(live: Live):
    told = origins(live, hyperparameters={"max_steps": 7, "weight_decay": 0.1})
    assert (told["hyperparameters.max_steps"], told["hyperparameters.weight_decay"]) == ("set", "set")
    assert (told["hyperparameters.learning_rate"], told["checkpoints.save_steps"]) == ("auto", "auto")
    assert (told["hyperparameters.adam_beta1"], told["seed"]) == ("default", "default")
    assert (told["kind"], told["training_file"]) == ("set", "set")


def test_what_only_the_machine_will_know_is_auto(live: Live):
    told = origins(live)
    assert (told["hyperparameters.precision"], told["resources.device"]) == ("auto", "auto")


def test_the_config_is_that_of_the_job_and_valid_as_a_new_one(live: Live):
    job_id = submitted(live, seed=7)
    config = live.mine.get(f"/v1/jobs/{job_id}/config").json()
    assert config["spec"] == live.mine.get(f"/v1/jobs/{job_id}").json()["spec"]
    again = live.mine.post("/v1/jobs", json=config["spec"])
    assert (again.status_code, again.json()["spec"]) == (201, config["spec"])


def test_the_way_of_tuning_is_a_default_until_another_is_chosen(live: Live):
    published(live, "base", {"config.json": b"{}"})
    spec = {"kind": "sft", "model": "base", "training_file": upload(live.mine).json()["id"]}

    def told(**changes) -> str:
        job_id = live.mine.post("/v1/jobs", json=spec | changes).json()["id"]
        config = live.mine.get(f"/v1/jobs/{job_id}/config").json()
        return f"{config['spec']['tuning']['method']} {config['origins']['tuning.method']}"

    assert (told(), told(tuning={"method": "qlora"})) == ("lora default", "qlora set")
    assert told(tuning={"method": "lora", "r": 8}) == "lora set"  # a clone that had r alone would have no method


def test_every_value_has_an_origin(live: Live):
    spec = pretrain_spec(text_file(live.mine), metadata={"team": "search"})
    told = origins(live, **spec)
    assert told["metadata.team"] == "set"
    assert "model.hidden_size" in told
