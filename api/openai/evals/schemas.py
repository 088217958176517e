"""Evals as OpenAI's clients send and read them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.answers import Object
from db.evals import ASKED, COMPLETION, PROMPT
from db.models import Eval, EvalItem, EvalRun
from engine.graders import Grader, Message, Multi, SamplingParams, TextSimilarity
from engine.parts import Metadata, Text

_Name = Annotated[Text, Field(max_length=256)]
_SAMPLE_SCHEMA = {"type": "object", "properties": {"output_text": {"type": "string"}, "output_json": {}}}
NO_ERROR = {"code": "", "message": ""}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CustomSource(_Asked):
    """What the rows look like; the other sources of OpenAI's are logs, which are not kept here."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool = False


class EvalRequest(_Asked):
    """What `evals.create` sends."""

    data_source_config: CustomSource
    testing_criteria: Annotated[
        list[Annotated[Grader, Field(discriminator="type")]], Field(min_length=1, max_length=50)
    ]
    name: _Name = ""
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _each_name_once(self) -> "EvalRequest":
        names = [criterion.name for criterion in self.testing_criteria]
        if len(set(names)) < len(names):
            raise ValueError("testing_criteria: two have the same name, and results are told by name")
        return self

    @model_validator(mode="after")
    def _each_can_fail(self) -> "EvalRequest":
        for criterion in self.testing_criteria:
            if _passes_whatever_comes(criterion):
                raise ValueError(f"testing_criteria: {criterion.name!r} would pass every row; give it a pass_threshold")
        return self


def _passes_whatever_comes(criterion: Grader) -> bool:
    """Whether it, or one of several that must all pass, tells how alike texts are and not how alike they must be."""
    if isinstance(criterion, Multi):
        return criterion.pass_threshold is None and any(map(_passes_whatever_comes, criterion.graders.values()))
    return isinstance(criterion, TextSimilarity) and criterion.pass_threshold is None


class EvalChange(_Asked):
    """What `evals.update` sends."""

    name: _Name | None = None
    metadata: Metadata | None = None


class _Row(_Asked):
    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(_Asked):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: Annotated[list[_Row], Field(min_length=1, fail_fast=True)]


class FileById(_Asked):
    """Rows in a file of purpose evals."""

    type: Literal["file_id"]
    id: Annotated[Text, Field(max_length=100)]


class JsonlSource(_Asked):
    """Rows that hold what is to be graded."""

    type: Literal["jsonl"]
    source: Annotated[FileContent | FileById, Field(discriminator="type")]


class Template(_Asked):
    """What the model is told: messages in which `{{item.x}}` stands for a row's values."""

    type: Literal["template"]
    template: Annotated[list[Message], Field(min_length=1, max_length=100)]


class ItemReference(_Asked):
    """Where in a row the messages for the model stand."""

    type: Literal["item_reference"]
    item_reference: Annotated[Text, Field(pattern=r"^item(\.[^.]+)+$", max_length=200)]


class CompletionsSource(_Asked):
    """Rows that a model answers before they are graded."""

    type: Literal["completions"]
    model: _Name
    source: Annotated[FileContent | FileById, Field(discriminator="type")]
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")]
    sampling_params: SamplingParams = SamplingParams()


class RunRequest(_Asked):
    """What `evals.runs.create` sends."""

    data_source: Annotated[JsonlSource | CompletionsSource, Field(discriminator="type")]
    name: _Name = ""
    metadata: Metadata | None = None


class EvalObject(Object):
    """What is graded and how."""

    object: Literal["eval"] = "eval"
    name: str
    created_at: int
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str]


class RunObject(Object):
    """A run and its results so far."""

    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    name: str
    created_at: int
    status: Literal["queued", "in_progress", "completed", "canceled", "failed"]
    model: str
    data_source: dict[str, Any]
    metadata: dict[str, str]
    error: dict[str, str]
    report_url: str
    per_model_usage: list[dict[str, Any]]
    per_testing_criteria_results: list[dict[str, Any]]
    result_counts: dict[str, int]


class ItemObject(Object):
    """A graded row."""

    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    eval_id: str
    run_id: str
    status: Literal["pass", "fail", "error"]
    datasource_item: dict[str, Any]
    datasource_item_id: int
    results: list[dict[str, Any]]
    sample: dict[str, Any]


class DeletedEval(BaseModel):
    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: Literal[True] = True
    eval_id: str


class DeletedRun(BaseModel):
    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: Literal[True] = True
    run_id: str


def eval_object(made: Eval) -> EvalObject:
    return EvalObject(
        id=made.id,
        name=made.name,
        created_at=int(made.created_at),
        data_source_config=_shown(made.definition["data_source_config"]),
        testing_criteria=made.definition["testing_criteria"],
        metadata=made.definition["metadata"],
    )


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    """The schema of a whole row, as OpenAI's clients read it. Once it was stored as `schema`, and is that of the item."""
    properties = {"item": config["schema"] if "schema" in config else config["item_schema"]}
    if config.get("include_sample_schema"):
        properties["sample"] = _SAMPLE_SCHEMA
    return {"type": "custom", "schema": {"type": "object", "properties": properties, "required": ["item"]}}


def run_object(run: EvalRun) -> RunObject:
    tally = run.tally
    names = [criterion["name"] for criterion in run.definition["testing_criteria"]]
    return RunObject.model_validate(
        {
            "id": run.id,
            "eval_id": run.eval_id,
            "name": run.name,
            "created_at": int(run.created_at),
            "status": run.state,
            "model": run.definition["data_source"].get("model", ""),
            "data_source": run.definition["data_source"],
            "metadata": run.definition["metadata"],
            "error": NO_ERROR if run.error_message is None else {"code": "failed", "message": run.error_message},
            "report_url": f"/v1/evals/{run.eval_id}/runs/{run.id}/output_items",
            "per_model_usage": _usage(tally),
            "per_testing_criteria_results": [
                {
                    "testing_criteria": name,
                    "passed": tally.get(f"passed {name}", 0),
                    "failed": tally.get(f"failed {name}", 0),
                }
                for name in names
            ],
            "result_counts": {
                "total": tally.get("rows", 0),
                "passed": tally.get("pass", 0),
                "failed": tally.get("fail", 0),
                "errored": tally.get("error", 0),
            },
        }
    )


def _usage(tally: dict[str, Any]) -> list[dict[str, Any]]:
    models = [name.removeprefix(ASKED) for name in tally if name.startswith(ASKED)]
    return [
        {
            "model_name": model,
            "invocation_count": tally[f"{ASKED}{model}"],
            "cached_tokens": 0,
            "prompt_tokens": tally[f"{PROMPT}{model}"],
            "completion_tokens": tally[f"{COMPLETION}{model}"],
            "total_tokens": tally[f"{PROMPT}{model}"] + tally[f"{COMPLETION}{model}"],
        }
        for model in models
    ]


def item_object(run: EvalRun, item: EvalItem) -> ItemObject:
    errors = item.results["errors"]
    return ItemObject.model_validate(
        {
            "id": f"{ITEM}{item.number}",
            "created_at": int(item.created_at),
            "eval_id": run.eval_id,
            "run_id": run.id,
            "status": item.state,
            "datasource_item": item.row["item"],
            "datasource_item_id": item.number,
            "results": item.results["results"],
            "sample": _sample(item.row.get("sample") or {}, errors) | item.results.get("sampled", {}),
        }
    )


ITEM = "outputitem-"
ITEM_ID = rf"^{ITEM}[0-9]{{1,15}}$"


def _sample(given: dict[str, Any], errors: list[str]) -> dict[str, Any]:
    """What was graded, in the shape of an answer of a model: of one that came with the row nothing else is known."""
    text = given.get("output_text")
    return {
        "input": [],
        "output": [] if not isinstance(text, str) else [{"role": "assistant", "content": text}],
        "finish_reason": "",
        "model": "",
        "seed": 0,
        "temperature": 0.0,
        "top_p": 0.0,
        "max_completion_tokens": 0,
        "usage": dict.fromkeys(("cached_tokens", "completion_tokens", "prompt_tokens", "total_tokens"), 0),
        "error": {"code": "grader_error", "message": "; ".join(errors)} if errors else NO_ERROR,
    }
