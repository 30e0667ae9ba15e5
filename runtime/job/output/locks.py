"""One run at a time on an output: a file lock on this machine, leases on an object store.

Shards of one run may work side by side, but no two runs of one shard, and none beside a run of the whole.
"""

import json
import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.storage.local import Storage

# A lease that was not renewed for this long belongs to a run that died.
LEASE_SECONDS = 120.0
_RENEW_SECONDS = 30.0


class Held:
    """A lock that is held."""

    def check(self) -> None:
        """Raise PairscoreError when the lock was lost: never, where the system keeps it until this process ends."""


@contextmanager
def hold(
    storage: Storage,
    folder: str,
    shard: tuple[int, int] | None,
    output: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
) -> Iterator[Held]:
    """Hold the lock in `folder`. shard: (number, of how many); None for the whole.

    output: what the message calls it. lease_seconds: the age at which a lease that nobody renews has expired. Raises
    PairscoreError while another run holds it.
    """
    with ExitStack() as stack:
        if storage.scheme != "file":
            yield stack.enter_context(_lease(storage, folder, shard, output, lease_seconds))
            return
        stack.enter_context(_file_lock(Path(folder, "lock"), shard is None, output))
        if shard:
            stack.enter_context(_file_lock(Path(folder, "lock-{}-of-{}".format(*shard)), True, output))
        yield Held()


@contextmanager
def _file_lock(path: Path, alone: bool, output: str) -> Iterator[None]:
    """An empty SQLite database, opened to write (`alone`) or to read beside other readers.

    SQLite locks files in the same way on every system, and the system unlocks them when the process ends, however it
    does. No module of Python's own does that everywhere.
    """
    owner = path.with_suffix(".owner")
    # A run may end in another thread than it began in.
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)) as database:
        try:
            database.execute("BEGIN EXCLUSIVE" if alone else "BEGIN")
            database.execute("SELECT * FROM sqlite_master").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise OSError(one_line(error)) from error
            who = owner.read_text(encoding="utf-8") if owner.is_file() else "another shard"
            raise _refusal(output, who) from error
        if alone:
            owner.write_text(_who(), encoding="utf-8")
        yield


class _Lease(Held):
    """An object that its run writes again and again. The lock is sound if the store lists every finished write.

    Conditional writes (`If-None-Match: *`) would not replace the listing: a lease on the whole and those on shards are
    objects of different names, and to take over that of a dead run needs a condition on its version as well, which
    fsspec does not pass on. And not every store has them.
    """

    def __init__(self, storage: Storage, folder: str, kind: str, seconds: float) -> None:
        self._storage = storage
        self._folder = folder
        self._seconds = seconds
        self.name = f"lock-{kind}-{secrets.token_hex(8)}"
        self._stop = threading.Event()
        self._renewed = 0.0

    def renew(self) -> None:
        started = time.monotonic()
        self._storage.write(f"{self._folder}/{self.name}", json.dumps({"who": _who()}).encode(), self._folder)
        self._renewed = started

    def check(self) -> None:
        if time.monotonic() - self._renewed > self._seconds:
            raise PairscoreError(
                "this run was held up for so long that another may have taken over its output: start it again"
            )

    def keep(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            try:
                self.renew()
            except (OSError, PairscoreError):
                continue  # `check` stops the run once this has failed for too long

    def release(self, thread: threading.Thread | None) -> None:
        self._stop.set()
        if thread is not None:
            thread.join()
        with suppress(OSError, PairscoreError):  # it expires by itself
            self._storage.remove(f"{self._folder}/{self.name}")


@contextmanager
def _lease(
    storage: Storage, folder: str, shard: tuple[int, int] | None, output: str, seconds: float
) -> Iterator[_Lease]:
    """Write a lease first, then look for others: if two runs start together, at least one sees the other."""
    kind = "{}-of-{}".format(*shard) if shard else "whole"
    lease = _Lease(storage, folder, kind, seconds)
    lease.renew()
    thread: threading.Thread | None = None
    try:
        # Ages are differences between the store's own times: this machine's clock plays no part.
        now = storage.modified(f"{folder}/{lease.name}")
        for name in storage.files(folder):
            theirs = name.removeprefix("lock-").rpartition("-")[0]
            if name == lease.name or not name.startswith("lock-") or not (theirs == kind or "whole" in (theirs, kind)):
                continue
            try:
                age = now - storage.modified(f"{folder}/{name}")
            except FileNotFoundError:
                continue  # its run has ended since it was listed
            if age < seconds:
                raise _refusal(output, f"{_owner(storage, f'{folder}/{name}')}; if that run is dead, wait two minutes")
            storage.remove(f"{folder}/{name}")
        thread = threading.Thread(target=lease.keep, name="pairscore-lease", daemon=True)
        thread.start()
        yield lease
    finally:
        lease.release(thread)


def _owner(storage: Storage, path: str) -> str:
    try:
        return str(json.loads(storage.read(path))["who"])
    except (OSError, PairscoreError, ValueError, KeyError):
        return "another run"


def _who() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _refusal(output: str, who: str) -> PairscoreError:
    return PairscoreError(f"another run is writing to {output!r} ({who}): wait for it, or choose another output")
