"""The one exception that users are meant to read; errors of libraries and long texts made fit for its one line."""


class PairscoreError(ValueError):
    """Bad input, configuration or environment.

    The message is one line that names the offending value and the remedy. The command line prints
    it without a traceback and exits with code 2.
    """


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, as one line of at most `most` characters; of the system's errors, the reason alone."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:most] or type(error).__name__


def shorten(text: str, width: int) -> str:
    """A text on one line of at most `width` characters, freed of what a terminal would obey."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= width else line[: width - 1] + "…"
