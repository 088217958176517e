"""What a job may use, and how the processes that share it divide the work."""

from typing import Literal

from pydantic import AliasChoices, Field

from engine.parts.part import Auto, Part


class Parallel(Part):
    """How several processes divide what a job holds in memory, under DeepSpeed's name."""

    zero_stage: Literal[0, 1, 2, 3] | Auto = Field(
        default="auto",
        description="auto: as little as lets a process fit into its memory, by the plan. 0: each process holds all. 1: they divide the optimizer's state among them. 2: the gradients too. "
        "3: the weights too (ZeRO, arXiv:1910.02054). The model that they train is the same.",
    )


class Resources(Part):
    """What the job may use."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    nproc_per_node: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias=AliasChoices("nproc_per_node", "gpus_per_node"),
        description="Processes that share the job, each with a GPU of its own, or on the CPU with its part of the "
        "cores. Whatever their number, they train the same model: they deal the rows of each step out among them.",
    )
    parallel: Parallel = Parallel()
    ddp_timeout: float = Field(
        default=600, ge=1, le=86_400, description="Seconds after which a process that does not answer ends the run."
    )
    max_minutes: float | None = Field(
        default=None, gt=0, le=525_600, description="The run is stopped and kept after this."
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")
