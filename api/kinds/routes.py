"""/v1/kinds: the kinds of jobs."""

import inspect

from fastapi import APIRouter, Response

from api.answers import Page, answer
from api.deps import CallerDep
from api.errors import documented
from api.kinds.schemas import KindObject
from engine.jobs import SPECS

router = APIRouter(prefix="/kinds", tags=["kinds"])


_TITLES = {
    "pretrain": "Pretraining",
    "sft": "Supervised fine-tuning",
    "dpo": "Direct preference optimization",
    "eval": "Evaluation",
}


def _kinds() -> Page[KindObject]:
    kinds = []
    for name, spec in SPECS.items():
        title, description = _TITLES.get(name, name), inspect.getdoc(spec) or ""
        kinds.append(KindObject(id=name, title=title, description=description, spec_schema=spec.model_json_schema()))
    return Page.of(kinds)


_PAGE = _kinds()


@router.get("", response_model=Page[KindObject], responses=documented(401))
async def list_kinds(_caller: CallerDep) -> Response:
    """List the kinds of jobs, each with the JSON Schema of its spec."""
    return answer(_PAGE)
