"""Evals as OpenAI's clients send and read them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from api.answers import Object
from api.free_json import FreeObject, require_few_values
from db.evals import ASKED, COMPLETION, PROMPT
from db.models import Eval, EvalItem, EvalRun
from engine.graders import Grader, Message, Multi, SamplingParams, TextSimilarity
from engine.parts import Metadata, Text

_Name = Annotated[Text, Field(max_length=256)]
_SAMPLE_SCHEMA = {"type": "object", "properties": {"output_text": {"type": "string"}, "output_json": {}}}
NO_ERROR = {"code": "", "message": ""}
MOST_ROWS = 2000
"""The most rows that a request may contain."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CustomSource(_Request):
    """The schema of the rows. OpenAI's other sources are logs, which do not exist here."""

    type: Literal["custom"]
    item_schema: FreeObject
    include_sample_schema: bool = False


class EvalRequest(_Request):
    """The body of `evals.create`."""

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
            raise ValueError("testing_criteria: two have the same name, but results are reported by name")
        return self

    @model_validator(mode="after")
    def _each_can_fail(self) -> "EvalRequest":
        for criterion in self.testing_criteria:
            if _always_passes(criterion):
                raise ValueError(f"testing_criteria: {criterion.name!r} would pass every row; give it a pass_threshold")
        return self


def _always_passes(criterion: Grader) -> bool:
    """Return whether a criterion, or a part of it that must pass, measures similarity without a threshold."""
    if isinstance(criterion, Multi):
        return criterion.pass_threshold is None and any(map(_always_passes, criterion.graders.values()))
    return isinstance(criterion, TextSimilarity) and criterion.pass_threshold is None


class EvalChange(_Request):
    """The body of `evals.update`."""

    name: _Name | None = None
    metadata: Metadata | None = None


class _Row(_Request):
    item: dict[str, Any]
    sample: dict[str, Any] | None = None


def _few_rows(content: Any) -> Any:
    """Refuse too many rows before any of them is validated: each becomes an object, and may be wrong by itself."""
    if isinstance(content, list) and len(content) > MOST_ROWS:
        raise ValueError(
            f"content has {len(content):,} rows; at most {MOST_ROWS:,} are taken, more in a file (file_id)"
        )
    return require_few_values(content)


class FileContent(_Request):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: Annotated[
        list[_Row], Field(min_length=1, max_length=MOST_ROWS, fail_fast=True), BeforeValidator(_few_rows)
    ]


class FileById(_Request):
    """Rows in a file of purpose evals."""

    type: Literal["file_id"]
    id: Annotated[Text, Field(max_length=100)]


class JsonlSource(_Request):
    """Rows that hold what is to be graded."""

    type: Literal["jsonl"]
    source: Annotated[FileContent | FileById, Field(discriminator="type")]


class Template(_Request):
    """The messages to the model, in which `{{item.x}}` stands for a value of the row."""

    type: Literal["template"]
    template: Annotated[list[Message], Field(min_length=1, max_length=100)]


class ItemReference(_Request):
    """The path of the messages to the model in a row."""

    type: Literal["item_reference"]
    item_reference: Annotated[Text, Field(pattern=r"^item(\.[^.]+)+$", max_length=200)]


class CompletionsSource(_Request):
    """Rows that a model answers before they are graded."""

    type: Literal["completions"]
    model: _Name
    source: Annotated[FileContent | FileById, Field(discriminator="type")]
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")]
    sampling_params: SamplingParams = SamplingParams()


class RunRequest(_Request):
    """The body of `evals.runs.create`."""

    data_source: Annotated[JsonlSource | CompletionsSource, Field(discriminator="type")]
    name: _Name = ""
    metadata: Metadata | None = None


class EvalObject(Object):
    """An eval: the shape of its rows, and the criteria that grade them."""

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
    """Return the schema of a whole row, as OpenAI's clients read it. Older evals stored the item's schema as `schema`."""
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
    """Return a sample that came with its row in the shape of a model's answer, of which nothing else is known."""
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
