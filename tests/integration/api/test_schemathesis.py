"""Schemathesis against the running service: no 5xx, and nothing that the OpenAPI document does not say."""

import subprocess
import sys
from pathlib import Path

from db import artifacts
from tests.integration.api.live import Live, published, started, stored, upload

# What the document cannot say: which bytes make sound rows, which fields of a spec exclude each other,
# and what there is in a project. Everything else that follows the document must be accepted.
_CONFIG = """
[parameters]
"path.job_id" = "{job_id}"
"path.file_id" = "{file_id}"
"path.path" = "config.json"

[[operations]]
include-name = "POST /v1/files"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = "POST /v1/jobs"
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
    path.write_text(_CONFIG.format(job_id=adapter.job_id, file_id=file_id, checkpoint_id=checkpoint.id))
    return path


def test_no_request_is_answered_by_a_5xx_or_against_the_document(live: Live, tmp_path):
    program = [str(Path(sys.executable).with_name("schemathesis"))]
    options = [f"--config-file={config(live, tmp_path / 'schemathesis.toml')}"]
    run = [
        "run",
        f"{live.url}/openapi.json",
        f"--header=Authorization: {live.mine.headers['authorization']}",
        "--phases=fuzzing,stateful",
        "--max-examples=5",
        "--seed=20261121",
        "--continue-on-failure",
        "--no-shrink",
        "--request-timeout=10",
        "--warnings=off",
    ]
    ended = subprocess.run(
        program + options + run, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert live.mine.get("/readyz").status_code == 200
