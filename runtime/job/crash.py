"""Input files that end the process which reads them: Arrow calls abort() on some damaged footers.

    with noted(output, shard) as note:
        culprits = note.culprits(options, manifest)

A run writes a note among the control files before it reads footers or a block of rows, and removes it afterwards. A run
that finds a note of an earlier one reads the same again in a process of its own. If that process dies, the file is bad.
If it survives, somebody killed the earlier run just then.
"""

import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, Literal, cast

from pairscore.runtime.bundle.manifest import Manifest
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.input.footers import FOOTERS_AT_ONCE, FooterReading
from pairscore.runtime.job.input.read import read_pieces
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.output.layout import Output, cannot_write, prepare_control
from pairscore.runtime.job.parts import Block
from pairscore.runtime.job.plan import make_plan
from pairscore.runtime.typed_json import from_json

_CHILD = "from pairscore.runtime.job.crash import rehearse; rehearse()"


@dataclass(frozen=True)
class Culprits:
    """Number of an input file -> what happens when it is read. `footers`: while planning. `rows`: while scoring."""

    footers: dict[int, str] = field(default_factory=dict)
    rows: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.footers or self.rows)


class Note:
    """The note of one run or shard."""

    def __init__(self, output: Output, shard: tuple[int, int] | None) -> None:
        self._output = output
        self._path = f"{output.control}/reading-{'{}-of-{}'.format(*shard) if shard else 'whole'}"
        # That an earlier run left a note, and the block that it names.
        self._found, self._block = self._read()
        self.stays = False

    def set(self, block: Block | None = None) -> None:
        """Footers, or the rows of a block, are going to be read. Raises PairscoreError where the storage refuses."""
        storage = self._output.storage
        text = "null" if block is None else json.dumps(asdict(block))
        try:
            if storage.scheme == "file":
                Path(self._path).write_text(text)  # in no hurry to reach the disk: no machine ends here
            else:
                storage.write(self._path, text.encode(), self._output.control)
        except OSError as error:
            raise cannot_write(self._output.url, error) from error

    def clear(self) -> None:
        """They were read, or this process comes to a tidy end. Raises PairscoreError where the storage refuses."""
        if self.stays:
            self.set(self._block)
            return
        try:
            self._output.storage.remove(self._path)
        except OSError as error:  # else it would count as a fault of the file that is being read
            raise cannot_write(self._output.url, error) from error

    def mark(self, block: Block | None) -> None:
        """As `read_pieces` announces: a block that is going to be read, or None."""
        if block is None:
            self.clear()
        else:
            self.set(block)

    def culprits(self, options: JobOptions, manifest: Manifest) -> Culprits:
        """What an earlier run's note accuses rightly. While there is anything, the note stays."""
        found = culprits(options, manifest, self._block) if self._found else Culprits()
        self.stays = bool(found)
        return found

    def _read(self) -> tuple[bool, Block | None]:
        try:
            text = self._output.storage.read(self._path)
        except OSError:
            return False, None
        try:
            return True, None if text == b"null" else from_json(Block, text)
        except ValueError:
            return True, None


@contextmanager
def noted(output: Output, shard: tuple[int, int] | None) -> Iterator[Note]:
    """The note, cleared at any tidy end; folders that were made for it go with it."""
    note = Note(output, shard)
    folders = [Path(output.control), *Path(output.control).parents] if output.storage.scheme == "file" else []
    made = [folder for folder in folders if not folder.exists()]
    try:
        prepare_control(output)
    except OSError as error:
        raise cannot_write(output.url, error) from error
    try:
        yield note
    finally:
        with suppress(OSError, PairscoreError):  # the storage may be what failed
            note.clear()
        for folder in made:
            with suppress(OSError):  # something is in it now
                folder.rmdir()


def culprits(options: JobOptions, manifest: Manifest, block: Block | None = None) -> Culprits:
    """The files that end a process that plans the job and reads the block; without skip-file, the first of them."""
    found = Culprits()
    while not found or options.on_error == "skip-file":
        if not _ends(options, manifest, found, block, FOOTERS_AT_ONCE):
            break
        ended = _ends(options, manifest, found, block, 1)  # one at a time, which tells them apart
        if ended is None:
            break
        phase, place, number = ended
        reason = (
            f"ends the process that reads it ({signal.Signals(number).name}): write it again, or leave it out with "
            "--on-error skip-file"
        )
        (found.footers if phase == "footer" else found.rows)[place] = reason
        block = None if phase == "rows" else block
    return found


def _ends(
    options: JobOptions, manifest: Manifest, found: Culprits, block: Block | None, at_once: int
) -> tuple[Literal["footer", "rows"], int, int] | None:
    """Where a process is ended by a signal: phase, file and signal; None where it survives."""
    given = pickle.dumps((options, manifest, found.footers, block, at_once))
    with Popen([sys.executable, "-c", _CHILD], stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as child:
        stdin, stdout = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        with suppress(BrokenPipeError):
            stdin.write(given)
            stdin.flush()
        told = stdout.read().split()
    if child.returncode >= 0 or not told:
        return None
    return "rows" if told[-2] == b"rows" else "footer", int(told[-1]), -child.returncode


def rehearse() -> None:
    """The work of that process: it says on standard output what it is going to read, then reads it.

    Its standard input stays open as long as the run lives. Whoever kills the run so ends this process as well.
    """
    options, manifest, left_out, block, at_once = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_run, daemon=True).start()

    def say(phase: str, place: int) -> None:
        sys.stdout.write(f"{phase} {place}\n")
        sys.stdout.flush()

    with suppress(PairscoreError):  # the run itself will come to it
        plan = make_plan(options, manifest, FooterReading(left_out, at_once, lambda place: say("footer", place)))
        if block is not None and block.file < len(plan.files) and (file := plan.files[block.file]) is not None:
            say("rows", block.file)
            for _ in read_pieces(file, [block], plan.reading):
                pass


def _end_with_the_run() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing more is written: it returns when the other end is closed
    os._exit(0)
