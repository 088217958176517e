"""The statement in a signed manifest: an artifact's files, origin, configuration and metrics."""

import json
from typing import Any

from api.deps import Service
from api.models.schemas import Manifest, SignedManifest
from api.models.schemas import reference as reference_of
from db.models import Artifact, Job

_VERSION = 1
_ADAPTER_CONFIG = "adapter_config.json"
_MAX_CONFIG_BYTES = 1 << 20


def signed(
    service: Service, manifest: Manifest, artifact: Artifact, job: Job | None, base: Artifact | None
) -> SignedManifest:
    """Return the manifest with the statement, signed with the installation's key."""
    statement = _statement(service, manifest, artifact, job, base)
    return SignedManifest(**manifest.model_dump(), signed=service.manifest_signer.sign(statement))


def _statement(
    service: Service, manifest: Manifest, artifact: Artifact, job: Job | None, base: Artifact | None
) -> dict[str, Any]:
    spec = {} if job is None else job.spec
    lineage = artifact.lineage
    imported = lineage.get("kind") == "import"  # its files are the model itself, and not what it was trained on
    return {
        "version": _VERSION,
        "id": artifact.id,
        "reference": manifest.reference,
        "kind": artifact.kind,
        "layout": artifact.layout,
        "digest": artifact.digest,
        "files": [file.model_dump() for file in manifest.files],
        "base": base and {"id": base.id, "reference": reference_of(base), "digest": base.digest},
        "datasets": [] if imported else lineage.get("files", []),
        "imported_from": lineage.get("files", []) if imported else None,
        "source": lineage.get("source"),
        "left_out": lineage.get("left_out"),
        "job_id": artifact.job_id,
        "kind_of_job": lineage.get("kind"),
        "step": artifact.step,
        "spec": spec or None,
        "spec_digest": lineage.get("spec_digest"),
        "seed": spec.get("seed"),
        "code": lineage.get("code"),
        "adapter": _adapter(service, manifest),
        "metrics": artifact.metrics,
        "licence": artifact.licence,
        "limits": artifact.limits,
        "created_at": artifact.created_at,
    }


def _adapter(service: Service, manifest: Manifest) -> dict[str, Any] | None:
    """Return rank and target modules from the adapter's own config: the spec lacks them where training continued one."""
    file = next((file for file in manifest.files if file.path == _ADAPTER_CONFIG), None)
    if file is None or file.size_bytes > _MAX_CONFIG_BYTES:
        return None
    content = b"".join(service.blobs.chunks(file.sha256, range(file.size_bytes)))
    try:
        config = json.loads(content)
    except ValueError:
        return None
    if not isinstance(config, dict):
        return None
    targets = config.get("target_modules")
    return {
        "rank": config.get("r"),
        "alpha": config.get("lora_alpha"),
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
        "modules_to_save": config.get("modules_to_save"),
    }
