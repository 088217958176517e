"""What a job may use, and how the processes that share it divide the work."""

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, StringConstraints, model_validator

from engine.parts.part import Auto, Part

_Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,63}$")]
Labels = Annotated[dict[_Label, _Label], Field(max_length=8)]


class Parallel(Part):
    """How several processes divide what a job holds in memory, under DeepSpeed's name."""

    zero_stage: Literal[0, 1, 2, 3] | Auto = Field(
        default="auto",
        description="auto: as little as lets a process fit into its memory, by the plan. 0: each process holds all. 1: they divide the optimizer's state among them. 2: the gradients too. "
        "3: the weights too (ZeRO, arXiv:1910.02054). The model that they train is the same.",
    )
    tp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("tp_size", "tensor_parallel_size"),
        description="So many processes of a worker hold the model's linear layers together, each a part of every one, and "
        "work on the same rows (tensor parallelism, arXiv:1909.08053): for models that do not fit, and for long rows. "
        "Teams of them deal the rows out as single processes do.",
    )

    cp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("cp_size", "context_parallel_size"),
        description="So many processes of a worker take the tokens of each row in parts, and in attention the heads "
        "(context parallelism, arXiv:2309.14509): for rows whose activations do not fit. Goes with zero_stage.",
    )

    ep_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("ep_size", "expert_parallel_size"),
        description="So many processes of a worker hold a mixture's experts together, each some of them, and work on the "
        "same rows (expert parallelism).",
    )

    pp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("pp_size", "pipeline_parallel_size"),
        description="So many processes of a worker have some of the layers each, and rows go through them one after the other "
        "(pipeline parallelism, arXiv:1811.06965): for models that do not fit as they train. They are all at work where a step has "
        "more micro-batches than there are of them: set gradient_accumulation_steps to several times as many.",
    )

    @property
    def sizes(self) -> dict[str, int]:
        """In how many ways processes work on the same rows, and how many do in each."""
        return {"tp_size": self.tp_size, "cp_size": self.cp_size, "ep_size": self.ep_size, "pp_size": self.pp_size}

    @property
    def way(self) -> tuple[str, int] | None:
        """The one in which some do, and how many."""
        return next(((name, size) for name, size in self.sizes.items() if size > 1), None)

    @property
    def team(self) -> int:
        """Processes that work on the same rows."""
        return max(self.sizes.values())

    @model_validator(mode="after")
    def _one_way_to_divide(self) -> Self:
        asked = [f"{name} {size}" for name, size in self.sizes.items() if size > 1]
        if self.zero_stage not in {"auto", 0} and self.cp_size == 1:
            asked.append(f"zero_stage {self.zero_stage}")
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)} do not go together; leave one of them out")
        return self


class Resources(Part):
    """What the job may use."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_nodes: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("num_nodes", "nnodes"),
        description="Workers that carry the job out together, each with nproc_per_node processes. It starts when all of "
        "them are free at once; one that is lost ends the attempt, and the next goes on from the last checkpoint.",
    )
    min_nodes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Fewer than num_nodes will do, down to this many, where no more are alive. The model is the same.",
    )
    nproc_per_node: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("nproc_per_node", "gpus_per_node"),
        description="Processes of a worker that share the job, each with a GPU of its own, or on the CPU with its part of the "
        "cores. Whatever their number, they train the same model: they deal the rows of each step out among them.",
    )
    parallel: Parallel = Parallel()
    labels: Labels = Field(
        default={},
        description="What a worker must have to take the job, by its TRAINYARD_WORKER_LABELS. device: cuda asks by itself "
        "for a worker with as many GPUs as nproc_per_node says, and a plan for one with the memory that it tells.",
    )
    ddp_timeout: float = Field(
        default=600,
        ge=1,
        le=86_400,
        description="Seconds after which a process that does not answer ends the run. One that reads rows, scores its part of "
        "an evaluation or merges is waited for up to a day, unless it is gone.",
    )
    max_minutes: float | None = Field(
        default=None, gt=0, le=525_600, description="The run is stopped and kept after this."
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")

    @property
    def world_size(self) -> int:
        """Processes of all workers together."""
        return self.num_nodes * self.nproc_per_node

    @property
    def replicas(self) -> int:
        """Of the model, among which rows are dealt out: processes, or teams of them."""
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
