"""What the engine says while it runs: one JSON object a line in `events.jsonl`.

The worker reads these lines, the database keeps them, the stream replays them. Paths are
relative to the run directory. A figure that is not finite is written as null.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.errors import FailureClass

AttentionPath: TypeAlias = Literal["bmm", "flash-attn", "varlen", "sdpa"]
"""bmm: by hand on the CPU; flash-attn: that package's kernel; varlen: torch's own; sdpa: one call a document."""


class EventPart(BaseModel):
    """`time` is Unix seconds; `seq` counts the lines of one attempt from 1."""

    model_config = ConfigDict(frozen=True)

    seq: int
    time: float


class Started(EventPart):
    """The run knows what it will do. Every `auto` that depended on the machine is resolved here."""

    type: Literal["started"] = "started"
    device: str
    precision: str
    parameters: int
    trainable_parameters: int
    train_rows: int
    eval_rows: int
    total_steps: int
    start_step: int
    """0, or the step of the checkpoint that the run goes on from."""
    matmul_tflops: float
    """Measured on this device at start; MFU is told against it."""
    attention: AttentionPath
    """How packed rows are attended to."""


class Log(EventPart):
    """A sentence for a person; `code` is stable for programs."""

    type: Literal["log"] = "log"
    level: Literal["info", "warn", "error"]
    code: str
    message: str
    data: dict[str, Any] = {}


class Metrics(EventPart):
    """Figures of one step.

    train: loss, learning_rate, grad_norm, tokens, tokens_per_s, trained_tokens_per_s, mfu, device_use, memory_bytes,
    step_s, forward_s, backward_s, optimizer_s, data_wait_s, epoch, eta_s; of dpo also rewards/chosen,
    rewards/rejected, rewards/accuracies, rewards/margins, logps/chosen, logps/rejected; in fp16 also loss_scale.
    eval: eval_loss; eval_perplexity and eval_bits_per_byte, or of dpo eval_accuracy, eval_length_baseline and the
    figures above under eval_, or of a job of kind eval eval_acc/*, eval_baseline/*, eval_exact_match, eval_parseable.
    """

    type: Literal["metrics"] = "metrics"
    step: int
    split: Literal["train", "eval"]
    values: dict[str, float | None]


class Sample(EventPart):
    """What the model answers to one of the spec's prompts at this step: greedily, and sampled where that is asked for."""

    type: Literal["sample"] = "sample"
    step: int
    prompt: str
    greedy: str
    sampled: str | None


class CheckpointSaved(EventPart):
    """A complete checkpoint lies at `path`: an export plus `state/`."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    layout: Literal["model", "adapter"]
    best: bool
    metrics: dict[str, float | None]


class Exported(EventPart):
    """A result lies at `path`, has been loaded again and evaluated."""

    type: Literal["exported"] = "exported"
    step: int
    path: str
    layout: Literal["model", "adapter"]
    metrics: dict[str, float | None]
    merged_from: str | None = None
    """The path of the adapter, exported before, that this model has in its weights."""


class Used(EventPart):
    """What a run took that was done in one go; what needs a plan is null for models that none is made for.

    `runtime_bytes` is what of the peak is not tensors, `effort` what the time of each part of a run depends on
    (engine.plan.work), `part_seconds` what its steps and its evaluations took.
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
    """The run is done; `metrics` are its result, `groups` the same figures by the subjects of its rows."""

    type: Literal["finished"] = "finished"
    step: int
    metrics: dict[str, float | None]
    groups: dict[str, dict[str, float | None]] = {}
    items: str | None = None
    """The file that tells of every row what the model made of it."""


class Stopped(EventPart):
    """Asked to stop (SIGTERM, max_minutes is not one of these): a checkpoint at `step` is on disk."""

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
