"""How far a job is, for people: a bar on a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

from pairscore.runtime.job.progress.events import log_handler
from pairscore.runtime.job.progress.meter import Progress, duration

_LINE_SECONDS = 10.0


class Display:
    """Shows progress and passes on lines for people. This one is for `--quiet`: it shows nothing."""

    def say(self, line: str) -> None:
        """Print a line beside the progress."""

    def update(self, progress: Progress) -> None:
        """Show how far it is."""

    def close(self) -> None:
        """The last update has been shown."""


class ProgressLines(Display):
    """One line at intervals, for logs."""

    def __init__(self, seconds: float = _LINE_SECONDS) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def say(self, line: str) -> None:
        """As `Display.say`."""
        click.echo(line, err=True)

    def update(self, progress: Progress) -> None:
        """As `Display.update`."""
        if time.monotonic() - self._last < self._seconds:
            return
        self._last = time.monotonic()
        self.say(f"{progress.done:,} of {progress.total:,} pairs ({progress.share:.1%}), {_figures(progress)}")


class ProgressBar(Display):
    """A bar that is drawn in place, for a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = RichProgress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, counts="")

    def say(self, line: str) -> None:
        """As `Display.say`."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, progress: Progress) -> None:
        """As `Display.update`."""
        if not self._bar.live.is_started:
            self._bar.start()
        counts = f"{progress.done:,} of {progress.total:,} pairs, {_figures(progress)}"
        self._bar.update(self._task, total=progress.total, completed=progress.done, counts=counts, refresh=True)

    def close(self) -> None:
        """As `Display.close`."""
        if self._bar.live.is_started:
            self._bar.stop()


def choose_display(quiet: bool) -> Display:
    """Nothing when quiet, a bar where standard error is a terminal, else lines."""
    if quiet:
        return Display()
    console = Console(stderr=True)
    return ProgressBar(console) if console.is_terminal else ProgressLines()


@contextmanager
def shown(display: Display) -> Iterator[None]:
    """Say on `display` what this package logs from INFO on, and close the display at the end."""

    def say(record: logging.LogRecord) -> None:
        prefix = "pairscore: " if record.levelno >= logging.WARNING else ""
        display.say(f"{prefix}{record.getMessage()}")

    with log_handler(logging.INFO, say) as logger:
        before = logger.level, logger.propagate
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.level, logger.propagate = before
            display.close()


def _figures(progress: Progress) -> str:
    left = progress.seconds_left
    return f"{progress.pairs_per_second:,.0f} pairs/s" + ("" if left is None else f", {duration(left)} left")
