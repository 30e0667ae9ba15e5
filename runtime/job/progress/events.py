"""`--log-json`: what a job does, as JSON lines for machines."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pairscore.runtime.errors import PairscoreError, one_line

_log = logging.getLogger(__name__)


class EventLog:
    """One JSON object a line, appended to a file and flushed; no file, no log."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        try:
            self._file = path.open("a", encoding="utf-8") if path else None
        except OSError as error:
            raise PairscoreError(
                f"cannot write the log {str(path)!r} ({error.strerror}): choose another file"
            ) from error

    def write(self, event: str, **fields: Any) -> None:
        """Append an event with the time of day in UTC."""
        if self._file is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        with self._lock:
            try:
                self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
                self._file.flush()
            except OSError as error:
                name, self._file = self._file.name, None
                _log.warning("no more events are written to the log %r (%s); the job goes on", name, one_line(error))

    def close(self) -> None:
        """Close the file; there may be none."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@contextmanager
def log_handler(level: int, handle: Callable[[logging.LogRecord], object]) -> Iterator[logging.Logger]:
    """Call `handle` with what this package logs from `level` on while the block runs. Yields the package's logger."""
    logger, handler = logging.getLogger("pairscore"), logging.Handler(level)
    handler.emit = handle  # type: ignore[method-assign, assignment]
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
