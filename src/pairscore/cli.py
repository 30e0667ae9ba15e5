"""The `pairscore` command: a table of subcommands, each imported only when it is called.

Lazy imports keep `pairscore score` free of torch and quick to start. A subcommand lives beside the
code that it drives, in the `command.py` of its package.
"""

import os
import sys
import traceback
from importlib import import_module

import click

from pairscore.runtime.arguments import called_from_command
from pairscore.runtime.errors import PairscoreError, may_pass, one_line
from pairscore.runtime.standard_streams import unfailing_streams

# name -> (module, help line). The help line stands here so that `pairscore --help` imports nothing.
COMMANDS = {
    "export": ("pairscore.export.command", "Export a PyTorch cross-encoder into a model bundle."),
    "score": ("pairscore.runtime.command", "Score Parquet files of claim-evidence pairs."),
    "show": ("pairscore.runtime.command", "Look at a scored output: scores, nulls, best and worst evidence."),
    "info": ("pairscore.runtime.command", "Show what a bundle holds and what was promised for it."),
    "tune": ("pairscore.runtime.command", "Find the fastest settings on this machine, and remember them."),
    "verify": ("pairscore.export.command", "Compare a bundle with its PyTorch checkpoint."),
    "bench": ("pairscore.benchmarks.command", "Measure a bundle's engines and precisions: speed and parity."),
    "calibrate": ("pairscore.training.calibration.command", "Make a bundle's scores probabilities of your own pairs."),
    "train": ("pairscore.training.command", "Fine-tune a cross-encoder on claims and evidence."),
    "evaluate": ("pairscore.training.command", "Compute how well a checkpoint or a bundle ranks or labels."),
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
        for option in command.params:
            if isinstance(option, click.Option):  # its variable is named as users know it, not as its function does
                flag = max(option.opts, key=len).lstrip("-").replace("-", "_")
                option.envvar = f"PAIRSCORE_{cmd_name}_{flag}".upper()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pairscore", prog_name="pairscore")
def pairscore() -> None:
    """Score claim-evidence pairs with a cross-encoder, offline, by the million."""


# Exit codes; 1 is of commands that compare: a promise is broken. The codes from 64 on are those of sysexits.h.
BAD_CALL, FAULT, TRY_AGAIN, INTERRUPTED = 2, 70, 75, 130
DEBUG_VARIABLE = "PAIRSCORE_DEBUG"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; an error prints one line to standard error.

    2: the input or the call is wrong. 75: the same command may go well later. 70: a fault of this program. What becomes
    of the standard streams changes no code.
    """
    with unfailing_streams():
        sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        with called_from_command():
            code = pairscore.main(args=arguments, prog_name="pairscore", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except PairscoreError as error:
        message, code = str(error), TRY_AGAIN if may_pass(error) else BAD_CALL
    except click.ClickException as error:
        message, code = error.format_message(), BAD_CALL
    except (KeyboardInterrupt, click.Abort):
        message, code = "interrupted", INTERRUPTED
    except UnicodeEncodeError as error:
        message, code = f"{error.object!r:.80} is not UTF-8: give it in UTF-8", BAD_CALL
    except MemoryError as error:
        message = f"memory ran out ({one_line(error)}): give the same command again when more of it is free"
        code = TRY_AGAIN
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # what nobody below has put into better words
            message = f"cannot use {error.filename!r} ({one_line(error)}): check path, permissions and the space left"
            code = TRY_AGAIN if may_pass(error) else BAD_CALL
        else:
            message, code = _fault(error), FAULT
    click.echo(f"pairscore: error: {' '.join(message.split())}", err=True)
    return code


def _fault(error: Exception) -> str:
    """The message for an error that nobody foresaw."""
    from importlib.metadata import metadata

    debug = bool(os.environ.get(DEBUG_VARIABLE))
    if debug:
        traceback.print_exc()
    links = (link.partition(", ") for link in metadata("pairscore").get_all("Project-URL") or [])
    place = next((address for name, _, address in links if name == "Issues"), "its repository")
    how = "above" if debug else f"that {DEBUG_VARIABLE}=1 in the environment prints"
    return (
        f"a fault of pairscore's own ({type(error).__name__}: {one_line(error)}): please report it at {place} with the "
        f"traceback {how}"
    )


if __name__ == "__main__":
    main()
