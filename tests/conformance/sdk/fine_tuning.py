"""client.fine_tuning.jobs: from the upload to the bytes of the adapter, and what is refused on the way."""

import asyncio
import io
import os
import tarfile
import time
import warnings

import openai
import rows
from trial import Trial

DONE_S = 120
QUICK = {"tuning": {"method": "lora", "r": 4, "lora_alpha": 8}}
LENGTHS = {"max_length": 128, "packing": False}


async def scenario(t: Trial) -> None:
    base = os.environ["TRAINYARD_MODEL"]
    training = await t.call("files.create", file=("train.jsonl", rows.chat(16)), purpose="fine-tune")
    pairs = await t.call("files.create", file=("pairs.jsonl", rows.preferences(8)), purpose="fine-tune")
    made = await t.call(
        "fine_tuning.jobs.create",
        model=base,
        training_file=training.id,
        validation_file=training.id,
        suffix="adder",
        seed=7,
        metadata={"team": "sums", "mode": t.mode},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 2.0}},
        },
        integrations=[{"type": "wandb", "wandb": {"project": "sums", "tags": ["a"]}}],
        extra_body={**QUICK, "hyperparameters": LENGTHS, "checkpoints": {"save_steps": 2}},
    )
    shows_what_was_asked(t, made)
    await waits(t, base, training.id)
    done = await ended(t, made.id)
    t.same("fine_tuning.jobs.retrieve", "status", (done.status, done.error), ("succeeded", None))
    await tells(t, done)
    await adapter_comes_down(t, done)
    await permissions(t, done.fine_tuned_model, done.organization_id)
    await tuned_model(t, done, training.id)
    await preference(t, base, pairs.id)
    await refusals(t, base, training.id)


def shows_what_was_asked(t: Trial, job) -> None:
    method = "fine_tuning.jobs.create"
    t.same(method, "object", job.object, "fine_tuning.job")
    t.same(method, "seed and metadata", (job.seed, job.metadata), (7, {"team": "sums", "mode": t.mode}))
    asked = job.method.supervised.hyperparameters
    for told in (asked, job.hyperparameters):
        figures = (told.n_epochs, told.batch_size, round(told.learning_rate_multiplier, 9))
        t.same(method, "hyperparameters", figures, (1, 4, 2.0))
    t.same(method, "extension", job.model_extra["tuning"]["r"], 4)
    t.same(method, "suffix", job.model_extra["suffix"], "adder")
    t.same(method, "result_files", (job.result_files, job.fine_tuned_model), ([], None))


async def waits(t: Trial, base: str, file_id: str) -> None:
    """A job is paused, goes on and is cancelled; by the deprecated hyperparameters, with everything else left out."""
    job = await t.call(
        "fine_tuning.jobs.create", model=base, training_file=file_id, hyperparameters={"n_epochs": "auto"}
    )
    t.same("fine_tuning.jobs.create", "n_epochs of auto", job.hyperparameters.n_epochs, 3)
    t.same("fine_tuning.jobs.create", "no validation file", job.validation_file, None)
    lenient = t.at()  # "paused" is in OpenAI's reference, and not in the package's types
    paused = await lenient.call("fine_tuning.jobs.pause", job.id)
    t.same("fine_tuning.jobs.pause", "status", paused.status in {"paused", "pausing"}, True)
    resumed = await t.call("fine_tuning.jobs.resume", job.id)
    t.same("fine_tuning.jobs.resume", "status", resumed.status in {"queued", "running"}, True)
    cancelled = await t.call("fine_tuning.jobs.cancel", job.id)
    t.same("fine_tuning.jobs.cancel", "id", cancelled.id, job.id)
    end = await ended(t, job.id)
    t.same("fine_tuning.jobs.cancel", "status", end.status, "cancelled")
    error = await t.refused("fine_tuning.jobs.resume", openai.ConflictError, job.id)
    t.same("fine_tuning.jobs.resume", "code", error.code, "job_ended")


async def ended(t: Trial, job_id: str):
    deadline = time.monotonic() + DONE_S
    while True:
        job = await t.at().call("fine_tuning.jobs.retrieve", job_id)
        if job.status in {"succeeded", "failed", "cancelled"} or time.monotonic() > deadline:
            return await t.call("fine_tuning.jobs.retrieve", job_id)
        await asyncio.sleep(0.3)


async def tells(t: Trial, job) -> None:
    """Lists, events and checkpoints of a job that has ended."""
    method = "fine_tuning.jobs.list"
    found = await t.at().every(method, metadata={"team": "sums", "mode": t.mode}, limit=1)
    t.same(method, "by metadata", job.id in [one.id for one in found], True)
    t.same(method, "newest first", [one.id for one in found], sorted([one.id for one in found], reverse=True))
    events = await t.every("fine_tuning.jobs.list_events", job.id, limit=5)
    ids = [int(event.id.rpartition("-")[2]) for event in events]
    t.same("fine_tuning.jobs.list_events", "order", ids, list(range(len(ids), 0, -1)))
    figures = [event.data["train_loss"] for event in events if event.type == "metrics" and "train_loss" in event.data]
    t.same("fine_tuning.jobs.list_events", "losses", (len(figures), min(figures) > 0), (4, True))
    warned = [event for event in events if event.level == "warn"]
    t.same("fine_tuning.jobs.list_events", "integrations", "nothing of this job is sent" in warned[0].message, True)
    saved = await t.every("fine_tuning.jobs.checkpoints.list", job.id, limit=1)
    t.same("fine_tuning.jobs.checkpoints.list", "steps", [one.step_number for one in saved], [4, 2])
    for one in saved:
        t.same("fine_tuning.jobs.checkpoints.list", "loss", (one.metrics.train_loss or 0) > 0, True)
        t.same("fine_tuning.jobs.checkpoints.list", "held out", (one.metrics.full_valid_loss or 0) > 0, True)
        name = f"{job.fine_tuned_model}:ckpt-step-{one.step_number}"
        t.same("fine_tuning.jobs.checkpoints.list", "name", one.fine_tuned_model_checkpoint, name)


async def adapter_comes_down(t: Trial, job) -> None:
    (file_id,) = job.result_files
    shown = await t.call("files.retrieve", file_id)
    t.same("files.retrieve", "purpose", (shown.purpose, shown.filename), ("fine-tune-results", "adder.tar"))
    content = (await t.call("files.content", file_id)).read()
    t.same("files.content", "size", len(content), shown.bytes)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = set(archive.getnames())
    wanted = {"adapter_config.json", "adapter_model.safetensors", "SHA256SUMS"}
    t.same("files.content", "members", wanted - names, set())


async def permissions(t: Trial, name: str, project: str) -> None:
    method = "fine_tuning.checkpoints.permissions"
    checkpoint = f"{name}:ckpt-step-2"
    made = await t.every(f"{method}.create", checkpoint, project_ids=[project])
    t.same(f"{method}.create", "permission", (made[0].object, made[0].project_id), ("checkpoint.permission", project))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        shown = await t.call(f"{method}.retrieve", checkpoint, project_id=project)
    t.same(f"{method}.retrieve", "permission", [one.id for one in shown.data], [made[0].id])
    if hasattr(t.client.fine_tuning.checkpoints.permissions, "list"):
        listed = await t.every(f"{method}.list", checkpoint, limit=1, order="ascending")
        t.same(f"{method}.list", "permission", [one.id for one in listed], [made[0].id])
    gone = await t.call(f"{method}.delete", made[0].id, fine_tuned_model_checkpoint=checkpoint)
    t.same(f"{method}.delete", "answer", (gone.id, gone.deleted), (made[0].id, True))
    unknown = ["proj-none"]
    await t.refused(f"{method}.retrieve", openai.NotFoundError, "ft:no:such:model:x")
    try:
        await t.every(f"{method}.create", checkpoint, project_ids=unknown)
    except openai.NotFoundError as error:
        t.same(f"{method}.create", "unknown project", error.code, "project_not_found")


async def tuned_model(t: Trial, job, file_id: str) -> None:
    """The fine-tuned name is a model's: it is listed, shown, trained further and deleted."""
    name = job.fine_tuned_model
    t.same("fine_tuning.jobs.retrieve", "fine_tuned_model", (name[:3], ":adder:" in name), ("ft:", True))
    t.same("fine_tuning.jobs.retrieve", "trained_tokens", (job.trained_tokens or 0) > 0, True)
    t.same("models.list", "fine-tuned", name in [model.id for model in await t.every("models.list")], True)
    shown = await t.call("models.retrieve", name)
    t.same("models.retrieve", "id", shown.id, name)
    further = await t.call("fine_tuning.jobs.create", model=name, training_file=file_id, extra_body=QUICK)
    await t.call("fine_tuning.jobs.cancel", further.id)
    await ended(t, further.id)
    gone = await t.call("models.delete", name)
    t.same("models.delete", "answer", (gone.id, gone.object, gone.deleted), (name, "model", True))
    await t.refused("models.retrieve", openai.NotFoundError, name)


async def preference(t: Trial, base: str, file_id: str) -> None:
    job = await t.call(
        "fine_tuning.jobs.create",
        model=base,
        training_file=file_id,
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 1, "batch_size": "auto"}}},
        extra_body={**QUICK, "hyperparameters": {"max_length": 128}},
    )
    t.same("fine_tuning.jobs.create", "beta", job.method.dpo.hyperparameters.beta, 0.2)
    done = await ended(t, job.id)
    t.same("fine_tuning.jobs.create", "dpo", (done.status, done.error), ("succeeded", None))


async def refusals(t: Trial, base: str, file_id: str) -> None:
    method = "fine_tuning.jobs.create"
    error = await t.refused(method, openai.BadRequestError, model="gpt-4o-mini", training_file=file_id)
    t.same(method, "unknown model", (error.code, error.param), ("model_not_found", "model"))
    error = await t.refused(method, openai.BadRequestError, model=base, training_file="file-none")
    t.same(method, "unknown file", (error.code, error.param), ("file_not_found", "training_file"))
    hyperparameters = {"n_epochs": -1}
    error = await t.refused(
        method, openai.BadRequestError, model=base, training_file=file_id, hyperparameters=hyperparameters
    )
    t.same(method, "param", error.param, "hyperparameters.n_epochs")
    await t.refused("fine_tuning.jobs.retrieve", openai.NotFoundError, "ftjob-none")
