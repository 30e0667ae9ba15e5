"""A PyTorch model as an ONNX graph, through optimum's exporter."""

import shutil
import tempfile
from pathlib import Path

import onnx
import torch
from optimum.exporters.onnx import onnx_export_from_model

from pairscore.export.reference import quiet
from pairscore.runtime.errors import PairscoreError, one_line


def export_graph(model: torch.nn.Module, folder: Path) -> tuple[Path, ...]:
    """Write `model` as `folder`/model.onnx, batch and length dynamic, opset as optimum chooses it.

    Returns the files written: the graph, then its external data where it is too large for one file. Raises
    PairscoreError for an architecture that optimum cannot export.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, quiet():
        try:
            # No validation of optimum's own: parity on real pairs follows, and says more.
            onnx_export_from_model(model, scratch, task="text-classification", do_validation=False)
        except Exception as error:  # an unknown architecture, or a tracing failure of any kind
            raise PairscoreError(
                f"optimum's ONNX exporter cannot export {type(model).__name__} ({one_line(error)}): use an "
                "architecture that it supports"
            ) from error
        written = sorted(path for path in Path(scratch).iterdir() if path.name.startswith("model.onnx"))
        return tuple(Path(shutil.move(path, folder / path.name)) for path in written)


def input_names(graph: Path) -> tuple[str, ...]:
    """The names of a graph's inputs, in its order."""
    model = onnx.load(str(graph), load_external_data=False)
    return tuple(value.name for value in model.graph.input)
