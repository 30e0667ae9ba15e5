"""One run at a time on an output: a file lock on this machine, leases on an object store.

Shards of one run may work side by side, but no two runs of one shard, and none beside a run of the whole.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.job.output.layout import Output

# A lease that was not renewed for this long belongs to a run that died.
LEASE_SECONDS = 120.0
_RENEW_SECONDS = 30.0
_LOOK_SECONDS = 2.0
# How long one shard may hold up another while it takes its lock.
_SHARD_SECONDS = 5.0

# Leases of this process that are not released.
_HELD: set[str] = set()
_log = logging.getLogger(__name__)


class Held:
    """A lock that is held."""

    def check(self) -> None:
        """Raise TryAgainError when the lock was lost: never, where the system keeps it until this process ends."""


@contextmanager
def hold(output: Output, shard: tuple[int, int] | None, lease_seconds: float = LEASE_SECONDS) -> Iterator[Held]:
    """Hold the output's lock. shard: (number, of how many); None for the whole.

    lease_seconds: the age at which a lease that nobody renews has expired. Raises TryAgainError while another run holds
    it.
    """
    kind = "{}-of-{}".format(*shard) if shard else "whole"
    with ExitStack() as stack:
        with output.used():
            local = output.storage.scheme == "file"
            held = stack.enter_context(_file_lock(output, kind) if local else _lease(output, kind, lease_seconds))
        yield held


@contextmanager
def _file_lock(output: Output, kind: str) -> Iterator[Held]:
    """A file that is locked. The system unlocks it when the process ends, however it does.

    A run of the whole keeps `lock-whole`; a shard keeps it only until it has its own. So a run of the whole sees every
    shard at work, and no shard begins beside it.
    """
    folder = Path(output.control)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        whole = stack.enter_context(_taken(output, "whole", 0 if kind == "whole" else _SHARD_SECONDS))
        if kind == "whole":
            for path in folder.glob("lock-*-of-*[0-9]"):
                with _taken(output, path.name.removeprefix("lock-"), 0):
                    pass  # that shard is not at work
        else:
            stack.enter_context(_taken(output, kind, 0))
            whole.release()
        (folder / f"lock-{kind}.owner").write_text(_me()["who"], encoding="utf-8")
        yield Held()


@contextmanager
def _taken(output: Output, kind: str, seconds: float) -> Iterator[FileLock]:
    path = Path(output.control, f"lock-{kind}")
    lock = FileLock(path, timeout=seconds, thread_local=False)  # a run may end in another thread than it began in
    try:
        lock.acquire()
    except Timeout:
        owner = path.with_suffix(".owner")
        raise _refusal(output, owner.read_text(encoding="utf-8") if owner.is_file() else "another shard") from None
    try:
        yield lock
    finally:
        lock.release()


class _Lease(Held):
    """An object that its run writes again and again. The lock is sound if the store lists every finished write.

    Conditional writes (`If-None-Match: *`) would not replace the listing: a lease on the whole and those on shards are
    objects of different names, and to take over that of a dead run needs a condition on its version as well, which
    fsspec does not pass on. And not every store has them.
    """

    def __init__(self, output: Output, kind: str, seconds: float) -> None:
        self._storage, self._folder, self._seconds = output.storage, output.control, seconds
        self.path = f"{output.control}/lock-{kind}-{secrets.token_hex(8)}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="pairscore-lease", daemon=True)
        self._renew()
        _HELD.add(self.path)
        self._thread.start()

    def check(self) -> None:
        if time.monotonic() - self._renewed > self._seconds:
            raise TryAgainError(
                "this run was held up for so long that another may have taken over its output: start it again"
            )

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        _HELD.discard(self.path)
        with suppress(OSError, PairscoreError):  # it expires by itself
            self._storage.remove(self.path)

    def _renew(self) -> None:
        started = time.monotonic()
        self._storage.write(self.path, json.dumps(_me()).encode(), self._folder)
        self._renewed = started

    def _keep(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            with suppress(OSError, PairscoreError):  # `check` stops the run once this has failed for too long
                self._renew()


@contextmanager
def _lease(output: Output, kind: str, seconds: float) -> Iterator[_Lease]:
    """Write a lease first, then look for others: if two runs start together, at least one sees the other."""
    lease = _Lease(output, kind, seconds)
    try:
        # Ages are differences between the store's own times: this machine's clock plays no part.
        now = output.storage.modified(lease.path)
        for name in output.storage.files(output.control):
            path, theirs = f"{output.control}/{name}", name.removeprefix("lock-").rpartition("-")[0]
            if path != lease.path and name.startswith("lock-") and (theirs == kind or "whole" in (theirs, kind)):
                with suppress(FileNotFoundError):  # its run has ended since it was listed
                    _remove_if_dead(output, path, now, seconds)
        yield lease
    finally:
        lease.release()


def _remove_if_dead(output: Output, path: str, now: float, seconds: float) -> None:
    """Remove another run's lease when that run has surely ended. Raises TryAgainError where it may be alive.

    A lease of this machine tells by its process. One that this user left on a machine of this name, but before a reboot
    or in another container, is waited for until it expires.
    """
    storage, me = output.storage, _me()
    renewed = storage.modified(path)
    left = seconds - (now - renewed)
    try:
        owner: dict[str, str] = {**dict.fromkeys(me, ""), **json.loads(storage.read(path))}
    except (ValueError, TypeError):
        owner = {**dict.fromkeys(me, ""), "who": "another run"}
    if owner["machine"] == me["machine"]:
        alive = path in _HELD if owner == me else owner["started"] in ("", _started(owner["process"]))
        left = left if alive else 0.0
    elif left > 0 and (owner["host"], owner["user"]) == (me["host"], me["user"]):
        _log.warning("waiting for the lease of %s, which ends in %.0f s unless that run is alive", owner["who"], left)
        until = time.monotonic() + left
        while storage.modified(path) == renewed and left > 0:
            time.sleep(min(_LOOK_SECONDS, left))
            left = until - time.monotonic()
    if left > 0:
        raise _refusal(output, f"{owner['who']}; if that run is dead, its lease ends in {left:.0f} s")
    storage.remove(path)


def _me() -> dict[str, str]:
    """What a lease says of this process. `machine`: its boot and its numbers of processes; "" where nothing tells."""
    host, process, machine = socket.gethostname(), str(os.getpid()), ""
    with suppress(OSError):
        machine = (
            f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
        )
    user = str(getattr(os, "getuid", str)())
    who = f"process {process} on {host}"
    return {
        "who": who,
        "host": host,
        "user": user,
        "machine": machine,
        "process": process,
        "started": _started(process),
    }


def _started(process: str) -> str:
    """When a process of this machine began, in ticks after the boot; "" where it has ended, or nothing tells."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except (OSError, IndexError):
        return ""


def _refusal(output: Output, who: str) -> TryAgainError:
    return TryAgainError(f"another run is writing to {output.url!r} ({who}): wait for it, or choose another output")
