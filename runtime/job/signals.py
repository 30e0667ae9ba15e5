"""SIGINT and SIGTERM as an exception in the main thread, so that a run stops at once and in order."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """A signal asked the process to stop. It is no Exception, so no error handler can swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that died of the signal: 130 or 143."""
        return 128 + self.number


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise Stopped at the first SIGINT or SIGTERM; leave the process at once at the second.

    Everything written is renamed into place, so there is nothing that an abrupt end could damage. Outside the
    main thread, where Python delivers no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = 0

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal seen
        seen += 1
        if seen > 1:
            os._exit(128 + number)
        raise Stopped(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
