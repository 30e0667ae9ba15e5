"""How far a job is: a bar on a terminal, plain lines elsewhere, events for machines."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from pairscore.runtime.errors import PairscoreError, one_line

_BAR_SECONDS = 0.25
_LINE_SECONDS = 10.0


class Meter:
    """Counts pairs from many threads. `done` and `total` count rows, those of earlier runs included."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self.total = 0
        self.done = 0
        self.before = 0

    def start(self, total: int, before: int) -> None:
        """Begin a run of `total` rows of which `before` are already scored."""
        self._started = time.monotonic()
        self.total, self.before, self.done = total, before, before

    def add(self, rows: int) -> None:
        """Some more rows are done."""
        with self._lock:
            self.done += rows

    @property
    def rate(self) -> float:
        """Rows a second in this run."""
        return (self.done - self.before) / max(time.monotonic() - self._started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before there is one."""
        return (self.total - self.done) / self.rate if self.done > self.before else None


class Display(Protocol):
    """Shows a meter and passes on lines for people. `interval`: seconds between updates."""

    interval: float

    def say(self, line: str) -> None:
        """Print a line beside the progress."""
        ...

    def update(self, meter: Meter) -> None:
        """Show how far it is."""
        ...

    def close(self) -> None:
        """The last update has been shown."""
        ...


class Silent:
    """`--quiet`."""

    interval = 3600.0

    def say(self, line: str) -> None:
        del line

    def update(self, meter: Meter) -> None:
        del meter

    def close(self) -> None:
        pass


class Lines:
    """One line at intervals, for logs."""

    interval = _LINE_SECONDS

    def say(self, line: str) -> None:
        click.echo(line, err=True)

    def update(self, meter: Meter) -> None:
        share = meter.done / meter.total if meter.total else 1.0
        self.say(f"{meter.done:,} of {meter.total:,} pairs ({share:.1%}), {_figures(meter)}")

    def close(self) -> None:
        pass


class Bar:
    """A bar that is drawn in place, for a terminal."""

    interval = _BAR_SECONDS

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, counts="")

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, meter: Meter) -> None:
        if not self._progress.live.is_started:
            self._progress.start()
        counts = f"{meter.done:,} of {meter.total:,} pairs, {_figures(meter)}"
        self._progress.update(self._task, total=meter.total, completed=meter.done, counts=counts, refresh=True)

    def close(self) -> None:
        if self._progress.live.is_started:
            self._progress.stop()


def choose_display(quiet: bool) -> Display:
    """Nothing when quiet, a bar where standard error is a terminal, else lines."""
    if quiet:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


@contextmanager
def shown(meter: Meter, display: Display) -> Iterator[None]:
    """Keep `display` up to date from a thread of its own while the block runs."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(display.interval):
            display.update(meter)

    thread = threading.Thread(target=tick, name="pairscore-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        display.close()


class EventLog:
    """One JSON object a line, appended to a file and flushed; no file, no log."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        try:
            self._file = path.open("a", encoding="utf-8") if path else None
        except OSError as error:
            raise PairscoreError(
                f"cannot write the log {str(path)!r} ({one_line(error)}): choose another file"
            ) from error

    def write(self, event: str, **fields: Any) -> None:
        """Append an event with the time of day in UTC."""
        if self._file is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        with self._lock:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; there may be none."""
        if self._file is not None:
            self._file.close()


@contextmanager
def warnings_told(display: Display, log: EventLog) -> Iterator[None]:
    """Pass what this package's modules warn of, repeated requests above all, to the display and the log."""

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            display.say(f"pairscore: {record.getMessage()}")
            log.write("warning", message=record.getMessage())

    logger, teller = logging.getLogger("pairscore"), Teller(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)
        logger.propagate = propagated


def duration(seconds: float) -> str:
    """Seconds as people say them: "4.5 s", "45 s", "3 min 20 s", "4 h 28 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _figures(meter: Meter) -> str:
    left = meter.seconds_left
    return f"{meter.rate:,.0f} pairs/s" + ("" if left is None else f", {duration(left)} left")
