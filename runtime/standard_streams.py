"""Standard output and error that may be closed, or full, without an error: what a command did stays done."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class _Unfailing:
    """A stream that drops what cannot be written, once and for all."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream does."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # of a terminal that knows few characters
            encoding = self._stream.encoding
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """As the stream does."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Send this and all later output nowhere; what is in the stream's buffer would fail again at the end."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def unfailing_streams() -> Iterator[None]:
    """Within the block, nothing that is printed raises an OSError."""
    before = sys.stdout, sys.stderr
    # A process may be started without these streams; printing then does nothing.
    sys.stdout, sys.stderr = (cast(TextIO, _Unfailing(stream)) if stream else stream for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
