"""Footers of input files, read in a process of their own: Arrow calls abort() on some damaged ones.

    for result in read_footers(found, text_columns): ...

The process says which file it begins, and hands over what it read of each. A file that ends it by a fault (SIGABRT,
SIGSEGV and the like) counts as one that cannot be read. Where several files were begun, they are read again one at a
time, which tells them apart.
"""

import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, Any, cast

from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.input.find import Found
from pairscore.runtime.input.footers import FOOTERS_AT_ONCE, FooterResult, read_here

_CHILD = "from pairscore.runtime.input.footer_process import serve; serve()"
# Signals by which a file ends the process that reads it. Any other, such as SIGKILL, is sent by somebody else.
_FAULTS = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP")

_log = logging.getLogger(__name__)


def read_footers(found: Sequence[Found], text_columns: Sequence[str]) -> Generator[FooterResult, None, None]:
    """What `read_here` gives, from another process; files that only this process can see are read here.

    Raises TryAgainError, which names the file, where somebody ends that process.
    """
    if not sys.executable or any(file.storage.private for file in found):
        yield from read_here(found, text_columns)
        return
    results: dict[int, FooterResult] = {}
    given, at_once = 0, FOOTERS_AT_ONCE

    def in_order() -> Iterator[FooterResult]:
        nonlocal given
        while given in results:
            result = results.pop(given)
            given += 1
            yield result if isinstance(result, PairscoreError) else replace(result, found=found[given - 1])

    while given < len(found):
        begun: list[int] = []
        started = False
        places = [place for place in range(given, len(found)) if place not in results]
        with _child((found, text_columns, places, at_once)) as child:
            try:
                for kind, *values in _frames(cast(IO[bytes], child.stdout)):
                    started = True
                    if kind == "begin":
                        begun.append(values[0])
                    elif kind == "end":
                        begun.remove(values[0])
                        results[values[0]] = values[1]
                        yield from in_order()
                    else:
                        _log.log(*values)
            finally:
                cast(IO[bytes], child.stdin).close()  # which ends it
        if given < len(found) and not started:  # it cannot import a file system of the user's own, say
            yield from read_here(found[given:], text_columns)
            return
        # One at a time, it may have begun a file before it handed over the one before; that one is read again.
        known = len(begun) == 1 or (begun and at_once == 1)
        if known:
            results[begun[-1]] = _error(found[begun[-1]], child.returncode)
            yield from in_order()
        elif given < len(found) and at_once == 1:
            raise TryAgainError(f"the process that reads footers ended ({_end(child.returncode)}): try again")
        at_once = FOOTERS_AT_ONCE if known else 1


def serve() -> None:
    """The work of that process. It ends when its standard input is closed, and so with the process that started it."""
    out, lock = sys.stdout.buffer, threading.Lock()

    def say(*frame: Any) -> None:
        with lock:
            pickle.dump(frame, out)
            out.flush()

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say("log", record.levelno, record.getMessage())

    logging.getLogger("pairscore").addHandler(Forward())
    configuration = pickle.load(sys.stdin.buffer)  # before the files' storages are made
    if configuration:
        from fsspec import config

        config.conf.update(configuration)
    found, text_columns, places, at_once = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_other_side, daemon=True).start()
    files = [found[place] for place in places]
    results = read_here(files, text_columns, at_once, lambda index: say("begin", places[index]))
    for place, result in zip(places, results, strict=True):
        say("end", place, result)


def _child(task: Any) -> "Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-c", _CHILD]
    try:
        fsspec = sys.modules.get("fsspec")
        given = pickle.dumps(fsspec.config.conf if fsspec else {}) + pickle.dumps(task)
    except Exception:  # whatever a file system of the user's own raises
        given = b""  # which ends it at once
    child = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment)
    with suppress(BrokenPipeError):  # its end says why
        stdin = cast(IO[bytes], child.stdin)
        stdin.write(given)
        stdin.flush()
        if not given:
            stdin.close()
    return child


def _frames(stream: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):  # the last one may be cut
            return


def _error(found: Found, code: int) -> PairscoreError:
    """The error for a file during which the process ended. Only one that is the file's fault lets it be left out."""
    if _end(code) in _FAULTS or code > 1:  # a large number where there are no signals
        return PairscoreError(
            f"{found.display!r} ends the process that reads it ({_end(code)}): write it again, or leave it out with "
            "--on-error skip-file"
        )
    raise TryAgainError(
        f"the process that read the footer of {found.display!r} was ended ({_end(code)}), perhaps for want of memory: "
        "try again"
    )


def _end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _end_with_the_other_side() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing more is written: it returns when the other end is closed
    os._exit(0)
