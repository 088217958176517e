"""The processes of a run: those that this machine starts, and how they connect to those of other machines.

Where several workers carry out a run together, `gang` in its job.json is this worker's place among them.
"""

import os
from typing import NamedTuple

from engine.errors import SpecError
from engine.jobs import spec_of
from engine.rundir import RunDirectory


class Gang(NamedTuple):
    """A worker's place among those of a run, under torchrun's names. `interface` is the network to the others."""

    node_rank: int
    num_nodes: int
    master_addr: str
    master_port: int
    interface: str


class Crew(NamedTuple):
    """The `here` processes on this machine, numbered from `first`, of `total` on all machines."""

    here: int = 1
    first: int = 0
    total: int = 1
    gang: Gang | None = None

    @property
    def ranks(self) -> range:
        """The ranks on this machine."""
        return range(self.first, self.first + self.here)

    @property
    def meeting(self) -> dict[str, str]:
        """Environment variables for connecting to the others; on one machine, processes connect through a file."""
        if self.gang is None:
            return {"GLOO_SOCKET_IFNAME": "lo"}
        return {
            "MASTER_ADDR": self.gang.master_addr,
            "MASTER_PORT": str(self.gang.master_port),
            "GLOO_SOCKET_IFNAME": self.gang.interface,
            "NCCL_SOCKET_IFNAME": self.gang.interface,
        }


def crew_of(run: RunDirectory) -> Crew:
    """Return the processes that are to be started; in a process that was started so, only that one."""
    if "RANK" in os.environ:
        return Crew()
    try:
        here, fields = spec_of(run).resources.nproc_per_node, run.read_job().get("gang")
    except SpecError:
        return Crew()  # a single process reports the error
    if fields is None:
        return Crew(here, 0, here)
    gang = Gang(**fields)
    return Crew(here, gang.node_rank * here, gang.num_nodes * here, gang)
