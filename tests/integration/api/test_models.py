"""Models, adapters and checkpoints over HTTP."""

import base64
import hashlib
import io
import json
import tarfile

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from db import artifacts
from db.state import JobState
from tests.integration.api.live import CHAT, Live, claimed, published, settled, started, stored, upload

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 100, "state/a file.bin": b"\x00\x01"}


def error(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("quoted", ["shown/1", "shown%2F1", "shown"])
def test_a_model_is_found_by_name_and_version(live: Live, quoted):
    known = live.mine.get("/v1/models", params={"name": "shown"}).json()["data"]
    made_id = known[0]["id"] if known else published(live, "shown", FILES).id
    shown = live.mine.get(f"/v1/models/{quoted}").json()
    assert (shown["id"], shown["reference"], shown["kind"]) == (made_id, "shown/1", "model")
    assert shown["size_bytes"] == sum(map(len, FILES.values()))
    assert live.mine.get(f"/v1/models/{made_id}").json() == shown


def test_a_name_alone_is_its_newest_version_and_all_are_listed(live: Live):
    ids = [published(live, "grown", {"a": bytes([n])}, kind="adapter").id for n in range(3)]
    assert live.mine.get("/v1/adapters/grown").json()["id"] == ids[2]
    for listing in ("/v1/adapters?name=grown", "/v1/adapters/grown/versions", "/v1/adapters/grown/1/versions"):
        assert [row["id"] for row in live.mine.get(listing).json()["data"]] == ids[::-1]


def test_a_collection_shows_its_own_kind_only(live: Live):
    made = published(live, "only-a-model", FILES)
    assert error(live.mine.get("/v1/adapters/only-a-model"), 404)["code"] == "adapter_not_found"
    assert error(live.mine.get(f"/v1/checkpoints/{made.id}"), 404)["code"] == "checkpoint_not_found"


def test_a_model_is_found_by_a_name_that_a_newer_adapter_has_too(live: Live):
    model, adapter = published(live, "bot", FILES), published(live, "bot", FILES, kind="adapter")
    assert live.mine.get("/v1/models/bot").json()["id"] == model.id
    assert live.mine.get("/v1/adapters/bot").json()["id"] == adapter.id


def test_the_manifest_lists_every_file_with_its_checksum(live: Live):
    made = published(live, "listed", FILES)
    manifest = live.mine.get("/v1/models/listed/1/manifest").json()
    assert (manifest["id"], manifest["digest"]) == (made.id, made.digest)
    assert manifest["files"] == [
        {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for path, content in sorted(FILES.items())
    ]
    sums = "".join(f"{file['sha256']}  {file['path']}\n" for file in manifest["files"])
    assert hashlib.sha256(sums.encode()).hexdigest() == made.digest


def test_the_manifest_is_signed_with_the_installations_key(live: Live):
    config = b'{"r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"]}'
    lineage = {
        "kind": "sft",
        "files": [{"id": "file-1", "filename": "a.jsonl", "sha256": "b" * 64}],
        "code": {"engine": "c"},
    }
    made = published(live, "signed", {"adapter_config.json": config}, kind="adapter", lineage=lineage)
    envelope = live.mine.get("/v1/adapters/signed/manifest").json()["signed"]
    public = live.mine.get("/v1/signing-key").json()
    key = load_pem_public_key(public["public_key"].encode())
    assert isinstance(key, Ed25519PublicKey)
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == public["keyid"] == hashlib.sha256(key.public_bytes_raw()).hexdigest()
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    key.verify(base64.b64decode(signature["sig"]), b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    statement = json.loads(payload)
    assert (statement["id"], statement["digest"]) == (made.id, made.digest)
    assert statement["adapter"]["target_modules"] == ["q_proj", "v_proj"]
    assert (statement["adapter"]["rank"], statement["seed"]) == (8, 42)
    assert (statement["datasets"], statement["code"]) == (lineage["files"], lineage["code"])
    assert statement["spec"]["kind"] == "pretrain"
    assert statement["files"][0]["sha256"] == hashlib.sha256(config).hexdigest()


def test_the_signing_key_is_its_owners_alone(live: Live):
    live.mine.get("/v1/signing-key")
    path = live.service.blobs.root.parent / "signing-key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in live.mine.get("/v1/signing-key").text


def test_one_file_is_downloaded_by_its_path(live: Live):
    published(live, "single", FILES)
    answer = live.mine.get("/v1/models/single/files/state/a%20file.bin", headers={"range": "bytes=1-"})
    assert (answer.status_code, answer.content) == (206, b"\x01")
    assert answer.headers["etag"] == f'"{hashlib.sha256(FILES["state/a file.bin"]).hexdigest()}"'
    assert error(live.mine.get("/v1/models/single/files/state"), 404)["code"] == "file_not_found"
    assert live.mine.get("/v1/models/single/files/..%2f..%2fsecret").status_code == 404


def test_the_archive_is_a_tar_of_all_files_the_same_every_time(live: Live):
    long_name = {"folder/" * 30 + "name": b"x" * 513}
    published(live, "packed", FILES | long_name)
    answer = live.mine.get("/v1/models/packed/1/archive")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content == live.mine.get("/v1/models/packed/1/archive").content
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    sums = found.pop("SHA256SUMS").decode()
    assert found == FILES | long_name
    assert f"{hashlib.sha256(b'{}').hexdigest()}  config.json\n" in sums


def test_lineage_leads_back_to_the_first_model_even_when_it_is_deleted(live: Live):
    first = published(live, "grandparent", {"a": b"1"})
    file_id = upload(live.mine, CHAT).json()["id"]
    body = {"kind": "sft", "model": "grandparent", "training_file": file_id}
    from_job = live.mine.post("/v1/jobs", json=body).json()["id"]
    fence = claimed(live, from_job)
    with live.database.write() as session:
        child = artifacts.publish_result(
            session, from_job, fence, kind="adapter", layout="adapter", name="child", step=1,
            files=[artifacts.FileEntry("a", *stored(live, b"2"))], metrics={}, lineage={"training_file": file_id},
        )  # fmt: skip
        assert child is not None
    assert error(live.mine.delete("/v1/models/grandparent"), 409)["code"] == "in_use"
    live.mine.post(f"/v1/jobs/{from_job}/cancel")
    settled(live, from_job, fence, JobState.CANCELLED)
    assert live.mine.delete("/v1/models/grandparent").status_code == 200
    lineage = live.mine.get("/v1/adapters/child/lineage").json()
    assert lineage["lineage"] == {"training_file": file_id}
    assert [(a["id"], a["reference"], a["deleted"]) for a in lineage["ancestors"]] == [
        (first.id, "grandparent/1", True)
    ]


def test_lineage_leads_on_to_what_was_made_of_a_model_and_what_scored_it(live: Live):
    first = published(live, "parent", FILES)
    second = published(live, "offspring", FILES, kind="adapter", base_id=first.id)
    file_id = upload(live.mine, purpose="evals").json()["id"]
    asked = {"kind": "eval", "model": "parent", "eval_file": file_id, "suffix": "look"}
    scoring = live.mine.post("/v1/jobs", json=asked).json()["id"]
    live.mine.delete("/v1/adapters/offspring")
    told = live.mine.get("/v1/models/parent/lineage").json()
    assert [(one["id"], one["deleted"]) for one in told["descendants"]] == [(second.id, True)]
    assert told["evaluations"] == [{"id": scoring, "name": "look", "status": "queued"}]
    live.mine.post(f"/v1/jobs/{scoring}/cancel")


def test_lineage_stays_after_artifact_checkpoints_and_data_are_deleted(live: Live):
    file_id = upload(live.mine, CHAT).json()["id"]
    job_id, fence = started(live)
    entry = artifacts.FileEntry("a", *stored(live, b"x"))
    recorded = {"files": [{"id": file_id, "filename": "rows.jsonl", "sha256": "0" * 64}]}
    with live.database.write() as session:
        for step in (10, 20):
            artifacts.publish_checkpoint(
                session, job_id, fence, step=step, layout="model", keep=1, files=[entry], metrics={}, lineage=recorded
            )
        made = artifacts.publish_result(
            session, job_id, fence, kind="model", layout="model", name="gone", step=20,
            files=[entry], metrics={}, lineage=recorded,
        )  # fmt: skip
    assert made is not None
    settled(live, job_id, fence)
    for path in (f"/v1/models/{made.id}", f"/v1/files/{file_id}"):
        assert live.mine.delete(path).status_code == 200
    told = live.mine.get(f"/v1/models/{made.id}/lineage").json()
    assert (told["reference"], told["deleted"], told["job_id"]) == ("gone/1", True, job_id)
    assert [(one["step"], one["deleted"]) for one in told["checkpoints"]] == [(10, True), (20, False)]
    assert (told["lineage"], told["deleted_files"]) == (recorded, [file_id])
    assert error(live.mine.get("/v1/models/gone/lineage"), 404)["code"] == "model_not_found"
    assert error(live.mine.get(f"/v1/adapters/{made.id}/lineage"), 404)["code"] == "adapter_not_found"
    assert error(live.theirs.get(f"/v1/models/{made.id}/lineage"), 404)["code"] == "model_not_found"


def test_checkpoints_are_listed_with_their_job(live: Live):
    job_id, fence = started(live)
    with live.database.write() as session:
        made = [
            artifacts.publish_checkpoint(
                session, job_id, fence, step=step, layout="model", keep=3,
                files=[artifacts.FileEntry("a", *stored(live, b"x"))], metrics={"eval_loss": 2.0}, lineage={},
            )
            for step in (10, 20)
        ]  # fmt: skip
    ids = [checkpoint.id for checkpoint in made if checkpoint]
    rows = live.mine.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
    assert [(row["id"], row["step"]) for row in rows] == [(ids[1], 20), (ids[0], 10)]
    assert live.mine.get("/v1/checkpoints", params={"job_id": job_id}).json()["data"] == rows
    assert live.mine.get(f"/v1/checkpoints/{ids[0]}/manifest").json()["reference"] == ids[0]


def test_a_deleted_version_is_gone_and_the_one_before_is_the_newest(live: Live):
    published(live, "shrunk", {"a": b"1"})
    published(live, "shrunk", {"a": b"2"})
    assert live.mine.delete("/v1/models/shrunk/2").json()["deleted"] is True
    assert error(live.mine.get("/v1/models/shrunk/2"), 404)["code"] == "model_not_found"
    assert live.mine.get("/v1/models/shrunk").json()["version"] == 1


TUNED = {"kind": "sft", "base": {"id": "model-1", "name": "tiny", "version": 3, "digest": "d"}}


def test_what_a_tuning_job_made_is_a_model_under_its_fine_tuned_name(live: Live):
    adapter = published(live, "helper", FILES, kind="adapter", lineage=TUNED)
    listed = {model["artifact_id"]: model for model in live.mine.get("/v1/models").json()["data"]}
    shown = listed[adapter.id]
    assert shown["id"].startswith("ft:tiny-3:project-")
    assert shown["id"].endswith(f":helper:{adapter.job_id.removeprefix('job-')}")
    assert (shown["object"], shown["owned_by"]) == ("model", live.project_id)
    assert live.mine.get(f"/v1/models/{shown['id']}").json() == shown
    assert live.mine.get(f"/v1/adapters/{shown['id']}").json()["id"] == adapter.id
    assert live.theirs.get(f"/v1/models/{shown['id']}").status_code == 404
    assert live.mine.get("/v1/models", params={"after": shown["id"], "limit": 1}).json()["first_id"] != shown["id"]
    assert adapter.id not in [row["artifact_id"] for row in live.mine.get("/v1/models?kind=model").json()["data"]]
    gone = live.mine.delete(f"/v1/models/{shown['id']}").json()
    assert gone == {"id": shown["id"], "object": "model", "deleted": True}


@pytest.mark.parametrize("changed", ["helper", "tiny-3", "ft"])
def test_a_fine_tuned_name_is_the_whole_name(live: Live, changed):
    published(live, "helper", FILES, kind="adapter", lineage=TUNED)
    (name,) = [row["id"] for row in live.mine.get("/v1/models", params={"name": "helper"}).json()["data"]][:1]
    assert live.mine.get(f"/v1/models/{name.replace(changed, 'other', 1)}").status_code == 404


def test_a_job_starts_from_a_fine_tuned_name(live: Live):
    base = published(live, "below", FILES)
    published(live, "tuned", FILES, kind="adapter", lineage=TUNED, base_id=base.id)
    (name,) = [row["id"] for row in live.mine.get("/v1/models", params={"name": "tuned"}).json()["data"]]
    spec = {"kind": "sft", "model": name, "training_file": upload(live.mine).json()["id"]}
    assert live.mine.post("/v1/jobs", json=spec).json()["spec"]["model"] == "tuned/1"
