"""Schemathesis against the running service: no 5xx, and nothing that the OpenAPI document does not say."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import artifacts
from db.receivers import Address, Receivers
from db.webhook_secrets import WebhookSecrets
from tests.integration.api.live import SECRET, Live, a_plan, published, started, stored, upload
from workers.courier import Courier

CASES = int(os.environ.get("TRAINYARD_FUZZ_CASES", "0"))
"""At least so many on each database (`make fuzz`); 0: one short round, for the suite."""
_EXAMPLES = 50
_SEED = 20261121

# What the document cannot say: which bytes make sound rows, which fields of a spec exclude each other,
# and what there is in a project. Everything else that follows the document must be accepted.
_CONFIG = """
[parameters]
"path.job_id" = "{job_id}"
"path.plan_id" = "{plan_id}"
"path.file_id" = "{file_id}"
"path.path" = "config.json"

# What breaks the document may also be too large to be looked at.
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 422, 429]

[[operations]]
include-name = "POST /v1/files"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "^/v1/(evals|fine_tuning/alpha)"
checks.positive_data_acceptance.enabled = false
checks.ensure_resource_availability.enabled = false

# A URL may be of a receiver that nothing is sent to.
[[operations]]
include-path-regex = "^/v1/webhook_endpoints"
checks.positive_data_acceptance.enabled = false
checks.ensure_resource_availability.enabled = false

[[operations]]
include-path-regex = "^/v1/uploads"
checks.positive_data_acceptance.enabled = false
checks.ensure_resource_availability.enabled = false

[[operations]]
include-name = "POST /v1/fine_tuning/jobs"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "POST /v1/jobs"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "POST /v1/models"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "POST /v1/aliases"
checks.positive_data_acceptance.enabled = false

# What can be deleted may be gone: the check overlooks a deletion in a scenario that ran before.
[[operations]]
include-path-regex = "^/v1/files/"
checks.ensure_resource_availability.enabled = false

[[operations]]
include-path-regex = "^/v1/(chat/)?completions"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "POST /v1/preview"
checks.positive_data_acceptance.enabled = false

# Links that are inferred take the id of the signing key for one of an API key.
[[operations]]
include-name = "GET /v1/audit"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "GET /v1/spend"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "GET /v1/plans/estimate"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "^/v1/models/"
parameters = {{ "path.reference" = "fuzzed" }}

[[operations]]
include-path-regex = "^/v1/adapters/"
parameters = {{ "path.reference" = "fuzzed-adapter/1" }}

[[operations]]
include-path-regex = "^/v1/checkpoints/"
parameters = {{ "path.reference" = "{checkpoint_id}" }}
"""


def config(live: Live, path: Path) -> Path:
    """A configuration in which ids are those of objects that exist, so that routes are tried to their end."""
    published(live, "fuzzed", {"config.json": b"{}"})
    adapter = published(live, "fuzzed-adapter", {"config.json": b"{}"}, kind="adapter")
    job_id, fence = started(live)
    with live.database.write() as session:
        checkpoint = artifacts.publish_checkpoint(
            session,
            job_id,
            fence,
            step=1,
            layout="model",
            files=[artifacts.FileEntry("config.json", *stored(live, b"{}"))],
            metrics={},
            lineage={},
            keep=3,
        )
    assert checkpoint is not None
    file_id = upload(live.mine).json()["id"]
    path.write_text(
        _CONFIG.format(plan_id=a_plan(live), job_id=adapter.job_id, file_id=file_id, checkpoint_id=checkpoint.id)
    )
    return path


def fuzzed(live: Live, configuration: Path, seed: int, examples: int) -> int:
    """The number of cases of one run, none of which was answered wrongly."""
    program = [str(Path(sys.executable).with_name("schemathesis")), f"--config-file={configuration}"]
    run = [
        "run",
        f"{live.url}/openapi.json",
        f"--header=Authorization: {live.mine.headers['authorization']}",
        "--phases=fuzzing,stateful",
        f"--max-examples={examples}",
        f"--seed={seed}",
        "--continue-on-failure",
        "--no-shrink",
        "--request-timeout=10",
        "--warnings=off",
        "--no-color",
    ]
    ended = subprocess.run(program + run, check=False, cwd=configuration.parent, capture_output=True, text=True)
    report = "\n".join(line[:500] for line in ended.stdout.splitlines())  # a case may be of megabytes
    assert ended.returncode == 0, report[-12_000:] + ended.stderr[-2000:]
    counted = re.search(r"([\d,]+) generated", ended.stdout)
    assert counted, ended.stdout[-2000:]
    return int(counted[1].replace(",", ""))


async def no_host_is_known(_host: str, _port: int) -> list[Address]:
    """Webhooks of the cases go nowhere, whatever their URLs are."""
    return []


@pytest.fixture
def _courier(live: Live) -> Iterator[None]:
    courier = Courier(live.database, WebhookSecrets(SECRET), Receivers(), pause_s=60, resolve=no_host_is_known)
    courier.start()
    yield
    courier.stop()


@pytest.mark.timeout(7200 if CASES else 300)
@pytest.mark.usefixtures("_courier")
def test_no_request_is_answered_by_a_5xx_or_against_the_document(live: Live, tmp_path, capsys):
    configuration = config(live, tmp_path / "schemathesis.toml")
    cases = fuzzed(live, configuration, _SEED, max(5, min(_EXAMPLES, CASES // 60)))
    rounds = 1
    while cases < CASES:
        cases += fuzzed(live, configuration, _SEED + rounds, _EXAMPLES)
        rounds += 1
    assert live.mine.get("/readyz").status_code == 200
    with capsys.disabled():
        if CASES:
            print(f"\n{live.database.dialect}: {cases:,} cases in {rounds} rounds")  # noqa: T201 - the count is what is asked for
