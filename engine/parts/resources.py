"""The resources of a job, and how the processes that share it divide the work."""

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, StringConstraints, model_validator

from engine.parts.part import Auto, Part

_Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,63}$")]
Labels = Annotated[dict[_Label, _Label], Field(max_length=8)]


class Parallel(Part):
    """How several processes divide a job among them."""

    zero_stage: Literal[0, 1, 2, 3] | Auto = Field(
        default="auto",
        description="ZeRO (arXiv:1910.02054). 0: each process holds everything. 1: they divide the optimizer's state. "
        "2: the gradients too. 3: the weights too. auto: the lowest stage with which a process fits into its memory, "
        "by the plan. The trained model is the same.",
    )
    tp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("tp_size", "tensor_parallel_size"),
        description="Tensor parallelism (arXiv:1909.08053): this many processes of a worker each hold a part of every "
        "linear layer, and work on the same rows. For models that do not fit, and for long rows. Rows are divided "
        "among such teams as among single processes.",
    )

    cp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("cp_size", "context_parallel_size"),
        description="Context parallelism (arXiv:2309.14509): this many processes of a worker divide the tokens of each "
        "row, and in attention the heads. For rows whose activations do not fit. Can be combined with zero_stage.",
    )

    ep_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("ep_size", "expert_parallel_size"),
        description="Expert parallelism: this many processes of a worker each hold some of the experts of a mixture of "
        "experts, and work on the same rows.",
    )

    pp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("pp_size", "pipeline_parallel_size"),
        description="Pipeline parallelism (arXiv:1811.06965): this many processes of a worker each hold some of the "
        "layers, and rows pass through them in turn. For models that do not fit when they are trained. To keep all of "
        "them busy, set gradient_accumulation_steps to several times their number.",
    )

    @property
    def sizes(self) -> dict[str, int]:
        """The number of processes that work on the same rows, by the kind of parallelism."""
        return {"tp_size": self.tp_size, "cp_size": self.cp_size, "ep_size": self.ep_size, "pp_size": self.pp_size}

    @property
    def way(self) -> tuple[str, int] | None:
        """The one kind of parallelism in use and its size, if any."""
        return next(((name, size) for name, size in self.sizes.items() if size > 1), None)

    @property
    def team(self) -> int:
        """Number of processes that work on the same rows."""
        return max(self.sizes.values())

    @model_validator(mode="after")
    def _one_way_to_divide(self) -> Self:
        given = [f"{name} {size}" for name, size in self.sizes.items() if size > 1]
        if self.zero_stage not in {"auto", 0} and self.cp_size == 1:
            given.append(f"zero_stage {self.zero_stage}")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} cannot be combined; leave one of them out")
        return self


class Resources(Part):
    """The resources of a job."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_nodes: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("num_nodes", "nnodes"),
        description="Number of workers that run the job together, each with nproc_per_node processes. It starts when "
        "all of them are free at once; if one is lost, the next attempt resumes from the last checkpoint.",
    )
    min_nodes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Start with fewer workers than num_nodes, down to this many, if no more are alive. The trained "
        "model is the same.",
    )
    nproc_per_node: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("nproc_per_node", "gpus_per_node"),
        description="Processes of a worker that share the job, each with its own GPU, or on the CPU with its part of "
        "the cores. They divide the rows of each step; whatever their number, the trained model is the same.",
    )
    parallel: Parallel = Parallel()
    labels: Labels = Field(
        default={},
        description="Labels that a worker must have to take the job (TRAINYARD_WORKER_LABELS). Without any "
        "label, device: cuda requires a worker with nproc_per_node GPUs, and a plan one with the memory it estimates.",
    )
    ddp_timeout: float = Field(
        default=600,
        ge=1,
        le=86_400,
        description="Seconds after which a process that does not respond ends the run. A process that reads rows, "
        "scores its part of an evaluation or merges may take up to a day, unless it is gone.",
    )
    max_minutes: float | None = Field(
        default=None, gt=0, le=525_600, description="The run is stopped after this time, and its result kept."
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Jobs with higher priority run first.")

    @property
    def world_size(self) -> int:
        """Number of processes of all workers."""
        return self.num_nodes * self.nproc_per_node

    @property
    def replicas(self) -> int:
        """Number of processes, or of teams of processes, among which rows are divided."""
        return self.world_size // self.parallel.team

    @model_validator(mode="after")
    def _whole_teams(self) -> Self:
        way = self.parallel.way
        if way is not None and self.nproc_per_node % way[1]:
            name, size = way
            raise ValueError(f"nproc_per_node is {self.nproc_per_node}, not a multiple of parallel.{name}, {size}")
        return self

    @model_validator(mode="after")
    def _fewer_is_fewer(self) -> Self:
        if self.min_nodes is not None and self.min_nodes > self.num_nodes:
            raise ValueError(f"min_nodes is {self.min_nodes}, more than num_nodes, {self.num_nodes}")
        return self
