"""The events of a run: one JSON object per line of `events.jsonl`.

The worker reads these lines, the database keeps them, the stream replays them. Paths are
relative to the run directory. A figure that is not finite is written as null.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.errors import FailureClass

AttentionPath: TypeAlias = Literal["bmm", "flash-attn", "varlen", "sdpa"]
"""bmm: the engine's own on the CPU; flash-attn: that package's kernel; varlen: torch's own; sdpa: a call per document."""


class EventPart(BaseModel):
    """The fields of every event: `time` in Unix seconds, and `seq`, which counts the lines of one attempt from 1."""

    model_config = ConfigDict(frozen=True)

    seq: int
    time: float


class Started(EventPart):
    """The run begins. Every `auto` that depends on the machine is resolved here."""

    type: Literal["started"] = "started"
    device: str
    precision: str
    parameters: int
    trainable_parameters: int
    train_rows: int
    eval_rows: int
    total_steps: int
    start_step: int
    """0, or the step of the checkpoint that the run resumes from."""
    matmul_tflops: float
    """Measured on this device at start; MFU is a share of it."""
    attention: AttentionPath
    """How attention over packed rows is computed."""


class Log(EventPart):
    """A message for people; `code` is stable, for programs."""

    type: Literal["log"] = "log"
    level: Literal["info", "warn", "error"]
    code: str
    message: str
    data: dict[str, Any] = {}


class Metrics(EventPart):
    """The metrics of one step.

    train: loss, learning_rate, grad_norm, tokens, tokens_per_s, trained_tokens_per_s, mfu, device_use, memory_bytes,
    step_s, forward_s, backward_s, optimizer_s, data_wait_s, epoch, eta_s; for dpo also rewards/chosen,
    rewards/rejected, rewards/accuracies, rewards/margins, logps/chosen, logps/rejected; in fp16 also loss_scale.
    eval: eval_loss; eval_perplexity and eval_bits_per_byte, or for dpo eval_accuracy, eval_length_baseline and the
    metrics above prefixed by eval_, or for a job of kind eval eval_acc/*, eval_baseline/*, eval_exact_match, eval_parseable.
    """

    type: Literal["metrics"] = "metrics"
    step: int
    split: Literal["train", "eval"]
    values: dict[str, float | None]


class Sample(EventPart):
    """The model's answer to one of the spec's prompts at this step: greedy, and sampled if the spec asks for it."""

    type: Literal["sample"] = "sample"
    step: int
    prompt: str
    greedy: str
    sampled: str | None


class CheckpointSaved(EventPart):
    """A complete checkpoint is at `path`: an export plus `state/`."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    layout: Literal["model", "adapter"]
    best: bool
    metrics: dict[str, float | None]


class Exported(EventPart):
    """A result is at `path`; it was loaded again and evaluated."""

    type: Literal["exported"] = "exported"
    step: int
    path: str
    layout: Literal["model", "adapter"]
    metrics: dict[str, float | None]
    merged_from: str | None = None
    """The path of the adapter, exported before, that is merged into this model's weights."""


class Used(EventPart):
    """The resources that an uninterrupted run took; fields that need a plan are null for models without one.

    `runtime_bytes` is the part of the peak that is not tensors, `effort` the work that the time of each part of a run
    depends on (engine.plan.work), `part_seconds` the time that its steps and its evaluations took.
    """

    type: Literal["used"] = "used"
    steps: int
    tokens: int
    trained_tokens: int
    device: str
    precision: str
    ranks: int = 1
    method: str
    peak_memory_bytes: int
    runtime_bytes: int | None = None
    flops: float | None = None
    effort: dict[str, dict[str, float]] | None = None
    part_seconds: dict[str, float] | None = None


class Finished(EventPart):
    """The run is done; `metrics` are its result, `groups` the same metrics by the subject of its rows."""

    type: Literal["finished"] = "finished"
    step: int
    metrics: dict[str, float | None]
    groups: dict[str, dict[str, float | None]] = {}
    items: str | None = None
    """The file with the model's result on every row."""


class Stopped(EventPart):
    """The run stopped on SIGTERM (not for max_minutes); a checkpoint of `step` is on disk."""

    type: Literal["stopped"] = "stopped"
    step: int


class Failed(EventPart):
    """The run cannot go on."""

    type: Literal["failed"] = "failed"
    failure: FailureClass
    code: str
    message: str
    mend: str


AnyEvent: TypeAlias = Started | Log | Metrics | Sample | CheckpointSaved | Exported | Used | Finished | Stopped | Failed
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])
