"""client.webhooks, where the package has it: endpoints, and deliveries that come to a receiver and are unwrapped."""

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import rows
from trial import Trial

SOURCE = {
    "type": "jsonl",
    "source": {"type": "file_content", "content": [{"item": {}, "sample": {"output_text": "a"}}]},
}
CHECK = {"type": "string_check", "name": "a", "input": "{{sample.output_text}}", "reference": "a", "operation": "eq"}


async def scenario(t: Trial) -> None:
    if not hasattr(t.client, "webhooks") or not hasattr(t.client.webhooks, "create"):
        return
    taken: list[tuple[dict[str, str], bytes]] = []
    server = receiver(taken)
    try:
        await endpoints(t, f"http://127.0.0.1:{server.server_address[1]}/", taken)
    finally:
        server.shutdown()


async def endpoints(t: Trial, url: str, taken: list[tuple[dict[str, str], bytes]]) -> None:
    told = ["eval.run.succeeded", "fine_tuning.job.cancelled"]
    made = await t.call("webhooks.create", name="tests", url=url, event_types=told)
    kept = made.to_dict()
    secret = kept.pop("signing_secret")
    t.same("webhooks.create", "endpoint", (made.object, made.url, made.event_types), ("webhook_endpoint", url, told))
    t.same("webhooks.retrieve", "endpoint", (await t.call("webhooks.retrieve", made.id)).to_dict(), kept)
    listed = await t.every("webhooks.list", limit=1)
    t.same("webhooks.list", "endpoint", listed[0].to_dict(), kept)
    types = await t.call("webhooks.event_types.list")
    t.same("webhooks.event_types.list", "types", set(told) <= set(types.data), True)
    sample = await t.call("webhooks.test", made.id, event_type="eval.run.failed")
    t.same("webhooks.test", "result", (sample.status_code, sample.webhook_endpoint_id), (200, made.id))
    unwraps(t, secret, taken[-1], "eval.run.failed", "sample")
    run = await ended_run(t)
    unwraps(t, secret, await came(taken, run), "eval.run.succeeded", run)
    rotated = await t.call("webhooks.rotate_secret", made.id, keep_old_secret_active_for_24_hours=True)
    t.same("webhooks.rotate_secret", "another", rotated.signing_secret != secret, True)
    job = await cancelled_job(t)
    for known in (secret, rotated.signing_secret):
        unwraps(t, known, await came(taken, job), "fine_tuning.job.cancelled", job)
    renamed = await t.call("webhooks.update", made.id, name="renamed")
    t.same("webhooks.update", "name", (renamed.name, renamed.url), ("renamed", url))
    await refusals(t, made.id)
    gone = await t.call("webhooks.delete", made.id)
    t.same("webhooks.delete", "answer", (gone.id, gone.deleted), (made.id, True))
    await t.refused("webhooks.retrieve", openai.NotFoundError, made.id)


def unwraps(t: Trial, secret: str, delivery: tuple[dict[str, str], bytes], kind: str, object_id: str) -> None:
    headers, body = delivery
    event = t.client.webhooks.unwrap(body.decode(), headers, secret=secret)
    t.same("webhooks.unwrap", "event", (event.type, event.data.id, event.object), (kind, object_id, "event"))
    t.client.webhooks.verify_signature(body, headers, secret=secret)
    try:
        t.client.webhooks.unwrap(body.decode() + " ", headers, secret=secret)
    except openai.InvalidWebhookSignatureError:
        return
    t.same("webhooks.unwrap", "a changed body", "taken", "refused")


async def refusals(t: Trial, endpoint_id: str) -> None:
    at = {"name": "x", "event_types": ["eval.run.failed"]}
    error = await t.refused("webhooks.create", openai.BadRequestError, url="http://169.254.169.254/", **at)
    t.same("webhooks.create", "private", (error.code, error.param), ("url_not_allowed", "url"))
    kinds = ["batch.completed"]
    await t.refused("webhooks.update", openai.UnprocessableEntityError, endpoint_id, event_types=kinds)


async def ended_run(t: Trial) -> str:
    source = {"type": "custom", "item_schema": {"type": "object"}}
    made = await t.call("evals.create", data_source_config=source, testing_criteria=[CHECK])
    return (await t.call("evals.runs.create", made.id, data_source=SOURCE)).id


async def cancelled_job(t: Trial) -> str:
    file = await t.call("files.create", file=("train.jsonl", rows.chat(4)), purpose="fine-tune")
    model = (await t.every("models.list"))[-1].id
    job = await t.call("fine_tuning.jobs.create", model=model, training_file=file.id)
    await t.call("fine_tuning.jobs.cancel", job.id)
    return job.id


async def came(taken: list[tuple[dict[str, str], bytes]], object_id: str) -> tuple[dict[str, str], bytes]:
    """The delivery that tells of the object."""
    deadline = time.monotonic() + 60
    while True:
        found = [delivery for delivery in taken if object_id.encode() in delivery[1]]
        if found or time.monotonic() > deadline:
            return found[0]
        await asyncio.sleep(0.1)


def receiver(taken: list[tuple[dict[str, str], bytes]]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append((dict(self.headers.items()), body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
