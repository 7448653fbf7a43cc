"""What a process waits for: descriptors, each with a function to call when it is ready."""

from __future__ import annotations

from select import poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Watch:
    """A `poll` that knows what to do."""

    __slots__ = ("_events", "_poll", "_then")

    def __init__(self) -> None:
        self._poll = poll()
        self._events: dict[int, int] = {}
        self._then: dict[int, Callable[[], object]] = {}

    def add(self, interests: dict[int, int], then: Callable[[], object]) -> None:
        """Wait for poll's events on these descriptors (0: no more), and call `then` when one comes."""
        events = self._events
        for fd, wanted in interests.items():
            if events.get(fd, 0) == wanted:
                continue
            if not wanted:
                self.drop(fd)
                continue
            self._poll.register(fd, wanted)
            events[fd] = wanted
            self._then[fd] = then

    def drop(self, *fds: int) -> None:
        """Wait no more for these."""
        for fd in fds:
            if self._events.pop(fd, 0):
                self._poll.unregister(fd)
                del self._then[fd]

    def wait(self, seconds: float | None) -> None:
        """Wait until something is ready, or so many seconds (None: for ever); then do what is to be done."""
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            then = self._then.get(fd)
            if then is not None:  # what another's readiness led to may have dropped it
                then()


__all__ = ["Watch"]
