"""The processes of a run: those that this machine starts, and where they meet the others'.

Where several workers carry out a run together, its job.json says under `gang` which of them this one is.
"""

import os
from typing import NamedTuple

from engine.errors import SpecError
from engine.jobs import spec_of
from engine.rundir import RunDirectory


class Gang(NamedTuple):
    """A worker's place among those of a run, by torchrun's names. `interface` is the network that leads to the others."""

    node_rank: int
    num_nodes: int
    master_addr: str
    master_port: int
    interface: str


class Crew(NamedTuple):
    """`here` processes on this machine, of which the first has the number `first`, of `total` on all machines."""

    here: int = 1
    first: int = 0
    total: int = 1
    gang: Gang | None = None

    @property
    def ranks(self) -> range:
        """The numbers of those on this machine."""
        return range(self.first, self.first + self.here)

    @property
    def meeting(self) -> dict[str, str]:
        """What their environment says of the way to the others; on one machine they meet by a file."""
        if self.gang is None:
            return {"GLOO_SOCKET_IFNAME": "lo"}
        return {
            "MASTER_ADDR": self.gang.master_addr,
            "MASTER_PORT": str(self.gang.master_port),
            "GLOO_SOCKET_IFNAME": self.gang.interface,
            "NCCL_SOCKET_IFNAME": self.gang.interface,
        }


def crew_of(run: RunDirectory) -> Crew:
    """Those that are still to be started; this process alone where it is one of them."""
    if "RANK" in os.environ:
        return Crew()
    try:
        here, told = spec_of(run).resources.nproc_per_node, run.read_job().get("gang")
    except SpecError:
        return Crew()  # it will say so itself
    if told is None:
        return Crew(here, 0, here)
    gang = Gang(**told)
    return Crew(here, gang.node_rank * here, gang.num_nodes * here, gang)
