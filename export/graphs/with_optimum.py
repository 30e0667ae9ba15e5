"""Optimum's exporter: TorchScript traces, and a table of what each architecture takes."""

import shutil
import tempfile
from pathlib import Path

from optimum.exporters.onnx import onnx_export_from_model

from pairscore.export.model import LogitsModel


def export(model: LogitsModel, target: Path) -> tuple[Path, ...]:
    """Write the graph, opset as optimum chooses it. Returns the files written, the graph first."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        # No validation of optimum's own: parity on real pairs follows, and says more.
        onnx_export_from_model(model.transformer, scratch, task="text-classification", do_validation=False)
        written = sorted(path for path in Path(scratch).iterdir() if path.name.startswith(target.name))
        return tuple(Path(shutil.move(path, target.parent / path.name)) for path in written)
