"""The one exception that users are meant to read."""


class PairscoreError(ValueError):
    """Bad input, configuration or environment.

    The message is one line that names the offending value and the remedy. The command line prints
    it without a traceback and exits with code 2.
    """
