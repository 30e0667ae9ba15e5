"""`export_bundle`: `pairscore export` from Python. PyTorch is imported when it is called."""

from collections.abc import Callable
from pathlib import Path

from pairscore.export.environment import require_export_extra
from pairscore.runtime.arguments import python_call
from pairscore.runtime.bundle.manifest import Manifest, PairOrder
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs_file import Pairs, given_pairs, read_labels


@python_call(max_difference=0, min_spearman=-1, max_length=1)
def export_bundle(
    source: str | Path,
    bundle: str | Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    exporter: str = "auto",
    pairs: Pairs = (),
    calibration: Pairs | None = None,
    claim_column: str = "claim",
    evidence_column: str = "evidence",
    label_column: str | None = None,
    engine: str = "auto",
    max_difference: float | None = None,
    min_spearman: float | None = None,
    max_length: int | None = None,
    pair_order: PairOrder | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Export the cross-encoder `source`, a folder or a Hugging Face id, into the folder `bundle`; return its manifest.

    fp32 makes a new bundle. Any other precision is added to the bundle of the same source that is there. The result is
    compared with PyTorch before the folder appears.

    `pairs`: your own, on which parity is checked beside the built-in ones. `calibration`: your own, which int8 is
    fitted to and judged on. Both are a Parquet file, with `claim_column` and `evidence_column`, or a list of pairs.
    `label_column`: column of the calibration file that marks relevant evidence; adds ranking figures. `engine`: the
    one that int8 is made for; auto tries all. `max_difference`, `min_spearman`: in place of the precision's promise.
    `max_length`: tokens a pair is truncated to, in place of the model's. `pair_order`: which text the
    model reads first; claim-evidence, or the bundle's own, by default. `say`: called with a line about each step.

    Raises PairscoreError for what cannot be exported, and ParityError, one of those, for scores further from PyTorch's
    than promised. In both cases nothing is written.
    """
    require_export_extra()
    if label_column is not None and not isinstance(calibration, str | Path):
        raise PairscoreError("--label-column names a column of --calibration: give that file too")
    from pairscore.export.build import build_bundle
    from pairscore.export.quantization.calibration import CalibrationPairs

    chosen = None
    if calibration is not None:
        rows = given_pairs(calibration, claim_column, evidence_column, option="--calibration")
        labels = read_labels(Path(str(calibration)), label_column) if label_column else None
        chosen = CalibrationPairs(tuple(rows), labels)
    return build_bundle(
        str(source),
        Path(bundle),
        revision=revision,
        precision=precision,
        exporter=exporter,
        pairs=given_pairs(pairs, claim_column, evidence_column),
        calibration=chosen,
        engine=engine,
        max_difference=max_difference,
        min_spearman=min_spearman,
        max_length=max_length,
        pair_order=pair_order,
        overwrite=overwrite,
        say=say,
    )
