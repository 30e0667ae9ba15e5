"""The exceptions that users are meant to read; errors of libraries and long texts made fit for their one line."""

import errno
import socket
from collections.abc import Sequence
from difflib import get_close_matches


class PairscoreError(ValueError):
    """Bad input, configuration or environment.

    The message is one line that names the offending value and the remedy. The command line prints
    it without a traceback and exits with code 2.
    """


class TryAgainError(PairscoreError):
    """A fault that may pass by itself: an output that another run holds, a store that is lost or refuses.

    The same call may succeed later. The command line exits with code 75.
    """


# Faults of files and stores that the same call meets again.
_LASTING = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_LASTING_CODES = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may go well later: a connection may come back, a disk may get room again."""
    if isinstance(error, PairscoreError):
        return isinstance(error, TryAgainError)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, socket.gaierror):  # its numbers are the resolver's
        return error.errno == socket.EAI_AGAIN
    if not isinstance(error, OSError) or isinstance(error, _LASTING):
        return False
    # Arrow's own errors about what a file holds are OSErrors without a number.
    return error.errno is not None and error.errno not in _LASTING_CODES


def storage_error(message: str, error: BaseException) -> PairscoreError:
    """The error for what a file system or a store refused, with this message."""
    return TryAgainError(message) if may_pass(error) else PairscoreError(message)


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, as one line of at most `most` characters; of the system's errors, the reason alone."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:most] or type(error).__name__


def shorten(text: str, width: int) -> str:
    """A text on one line of at most `width` characters, freed of what a terminal would obey."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= width else line[: width - 1] + "…"


def quoted(names: Sequence[str], most: int = 8) -> str:
    """Names in quotes, so that a space or an invisible character shows; of a long list, the first ones."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def no_column(name: str, names: Sequence[str]) -> str:
    """The words for a column that is not among `names`: the names most like it come first."""
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    alike = sorted({*close, *(each for each in names if _letters(each) == _letters(name))}, key=list(names).index)
    ordered = [*alike, *(each for each in names if each not in alike)]
    return f"no column {name!r}: the input has {quoted(ordered)}"


def _letters(name: str) -> str:
    """A name's letters and digits alone, whatever their case."""
    return "".join(character for character in name.casefold() if character.isalnum())
