"""Run the command line in this process, as a user would see it."""

import pytest

from pairscore.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Exit code, standard output and standard error of one command."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err
