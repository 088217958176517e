"""/v1/samples: data to begin with, each with a job that suits it."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from fastapi import APIRouter, Query, Response
from starlette.responses import FileResponse

from api.answers import Object, Page, answer
from api.deps import CallerDep, ServiceDep
from api.errors import documented, not_found

router = APIRouter(prefix="/samples", tags=["samples"])


class _Known(NamedTuple):
    purpose: Literal["pretrain", "fine-tune"]
    about: str


_SAMPLES = {
    "pretrain": _Known("pretrain", "Shakespeare's plays, 1.1 MB of text in the public domain"),
    "sft": _Known("fine-tune", "1,000 questions of GSM8K with their answers, under the MIT licence"),
}
"""By the name of the job's spec, which names its file: `examples/<name>.yaml` of a clone."""


SampleId = Annotated[str, Query(max_length=100, description="The id of a sample.")]


class SampleObject(Object):
    """A file of the clone's examples. `spec` is a job on it, which lacks the id that `training_file` has once uploaded."""

    object: Literal["sample"] = "sample"
    filename: str
    purpose: Literal["pretrain", "fine-tune"]
    about: str
    bytes: int
    spec: dict[str, Any]


def _told(folder: Path, name: str) -> SampleObject | None:
    """None where there is no clone."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        return None
    spec: dict[str, Any] = yaml.safe_load(path.read_text())
    file = folder / spec.pop("training_file")
    purpose, about = _SAMPLES[name]
    size_bytes = file.stat().st_size
    return SampleObject(id=name, filename=file.name, purpose=purpose, about=about, bytes=size_bytes, spec=spec)


@router.get("", response_model=Page[SampleObject], responses=documented(401))
def list_samples(service: ServiceDep, _caller: CallerDep) -> Response:
    """List the samples; there are none where the service runs without its clone."""
    found = [_told(service.settings.examples_dir, name) for name in _SAMPLES]
    return answer(Page.of([sample for sample in found if sample is not None]))


@router.get(
    "/content",
    response_class=Response,
    responses=documented(401, 404, 422)
    | {200: {"content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_sample(service: ServiceDep, _caller: CallerDep, sample: SampleId) -> Response:
    """Download a sample, to upload it as a file of one's own."""
    folder = service.settings.examples_dir
    told = _told(folder, sample) if sample in _SAMPLES else None
    if told is None:
        raise not_found("sample", sample)
    return FileResponse(folder / told.filename, media_type="text/plain; charset=utf-8")
