"""What an export or a verification reports when scores are too far from PyTorch's."""

from pairscore.runtime.errors import PairscoreError


class ParityError(PairscoreError):
    """A variant breaks its precision's promise. The message names the pairs and the differences."""
