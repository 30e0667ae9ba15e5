"""The `pairscore` command: a table of subcommands, each imported only when it is called.

Lazy imports keep `pairscore score` free of torch and quick to start. A subcommand lives beside the
code that it drives, in the `command.py` of its package.
"""

import sys
from importlib import import_module
from typing import NoReturn

import click

from pairscore import __version__
from pairscore.runtime.errors import PairscoreError

# name -> (module, help line). The help line stands here so that `pairscore --help` imports nothing.
COMMANDS = {
    "export": ("pairscore.export.command", "Export a PyTorch cross-encoder into a model bundle."),
    "score": ("pairscore.runtime.command", "Score Parquet files of claim-evidence pairs."),
    "show": ("pairscore.runtime.command", "Look at a scored output: scores, nulls, best and worst evidence."),
    "info": ("pairscore.runtime.command", "Show what a bundle holds and what was promised for it."),
    "tune": ("pairscore.runtime.command", "Find the fastest settings on this machine, and remember them."),
    "verify": ("pairscore.export.command", "Compare a bundle with its PyTorch checkpoint."),
    "bench": ("pairscore.benchmarks.command", "Speed and parity of a bundle's engines and precisions."),
    "calibrate": ("pairscore.training.calibration.command", "Make a bundle's scores probabilities of your own pairs."),
    "train": ("pairscore.training.command", "Fine-tune a cross-encoder on claims and evidence."),
    "evaluate": ("pairscore.training.command", "Ranking figures of a checkpoint or a bundle."),
}


class _LazyGroup(click.Group):
    """A click group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{cmd_name} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pairscore")
def pairscore() -> None:
    """Score claim-evidence pairs with a cross-encoder, offline, by the million."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input prints one line to standard error and exits with code 2."""
    try:
        code = pairscore.main(
            args=arguments, prog_name="pairscore", standalone_mode=False, auto_envvar_prefix="PAIRSCORE"
        )
    except PairscoreError as error:
        _fail(str(error), 2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except OSError as error:  # whatever nobody below has put into better words
        reason = error.strerror or str(error)
        _fail(f"cannot use {error.filename!r} ({reason}): check the path, its permissions and the space left", 2)
    except UnicodeEncodeError as error:
        _fail(f"{error.object!r:.80} is not UTF-8: give it in UTF-8", 2)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"pairscore: error: {' '.join(message.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
