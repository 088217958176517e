"""Work that takes long: each piece once at a time, and shared fairly among projects."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from api.errors import ApiError

T = TypeVar("T")


class Claims:
    """Names of what requests of this process are working on. To be used from one event loop."""

    def __init__(self) -> None:
        self._held: set[str] = set()

    @contextmanager
    def claim(self, name: str, refusal: ApiError) -> Iterator[None]:
        """Hold the name. Raises `refusal` when another request holds it."""
        if name in self._held:
            raise refusal
        self._held.add(name)
        try:
            yield
        finally:
            self._held.discard(name)


class FairThreads:
    """Threads apart from those that other routes use. Work of a project that has its share waits, and holds up no other."""

    def __init__(self, total: int, of_a_project: int) -> None:
        self._threads = CapacityLimiter(total)
        self._of_a_project = of_a_project
        self._shares: dict[str, CapacityLimiter] = {}

    async def run(self, project_id: str, function: Callable[..., T], *args: object) -> T:
        """Call the function in a thread, once the project and the process have one to spare."""
        share = self._shares.setdefault(project_id, CapacityLimiter(self._of_a_project))
        try:
            async with share:
                return await to_thread.run_sync(function, *args, limiter=self._threads)
        finally:
            if not share.borrowed_tokens and not share.statistics().tasks_waiting:
                self._shares.pop(project_id, None)
