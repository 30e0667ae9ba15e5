"""Several devices as one engine: each batch goes to a device that is free."""

from collections.abc import Sequence
from queue import SimpleQueue

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import Engine
from pairscore.runtime.types import FloatArray


class SpreadEngine:
    """Engines of one kind on several devices. A device takes as many batches at once as its engine has callers."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """`engines`: at least one."""
        self.members = tuple(engines)
        self.name = self.members[0].name
        self.device = ",".join(each.device for each in self.members)
        self.callers = sum(each.callers for each in self.members)
        self.token_budget = min(each.token_budget for each in self.members)
        self._free: SimpleQueue[Engine] = SimpleQueue()
        # In turn, so that the first batches go to different devices.
        for call in range(max(each.callers for each in self.members)):
            for each in self.members:
                if call < each.callers:
                    self._free.put(each)

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels), from the first device that is free."""
        engine = self._free.get()
        try:
            return engine.run(batch)
        finally:
            self._free.put(engine)
