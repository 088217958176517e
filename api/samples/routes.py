"""/v1/samples: sample data, each with a job spec that suits it."""

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
"""The samples, by the name of their job spec in a clone: `examples/<name>.yaml`, which names the data file."""


SampleId = Annotated[str, Query(max_length=100, description="The id of the sample.")]


class SampleObject(Object):
    """A sample file. `spec` is a job on it without `training_file`, which is known once the file is uploaded."""

    object: Literal["sample"] = "sample"
    filename: str
    purpose: Literal["pretrain", "fine-tune"]
    about: str
    bytes: int
    spec: dict[str, Any]


def _sample(folder: Path, name: str) -> SampleObject | None:
    """Return a sample, or None where the service runs without a clone."""
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
    """List the samples; there are none where the service runs without its repository."""
    found = [_sample(service.settings.examples_dir, name) for name in _SAMPLES]
    return answer(Page.of([sample for sample in found if sample is not None]))


@router.get(
    "/content",
    response_class=Response,
    responses=documented(401, 404, 422)
    | {200: {"content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_sample(service: ServiceDep, _caller: CallerDep, sample: SampleId) -> Response:
    """Download a sample, which can then be uploaded as a file."""
    folder = service.settings.examples_dir
    found = _sample(folder, sample) if sample in _SAMPLES else None
    if found is None:
        raise not_found("sample", sample)
    return FileResponse(folder / found.filename, media_type="text/plain; charset=utf-8")
