"""The one exception that users are meant to read, and the errors of libraries in its words."""


class PairscoreError(ValueError):
    """Bad input, configuration or environment.

    The message is one line that names the offending value and the remedy. The command line prints
    it without a traceback and exits with code 2.
    """


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, as one line of at most `most` characters; of the system's errors, the reason alone."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:most] or type(error).__name__
