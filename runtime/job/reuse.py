"""`--reuse`: scores that a finished output already holds, checked to be what this run would compute."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.written import Written, find_written
from pairscore.runtime.job.options import option_of, shown_options
from pairscore.runtime.job.output.layout import Output
from pairscore.runtime.job.settings import SCORE_SETTINGS, RunSettings
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.spill.old_scores import OldScores
from pairscore.runtime.storage.local import Storage, open_storage
from pairscore.runtime.storage.sealing import part_figures
from pairscore.runtime.stream.background import ahead
from pairscore.runtime.stream.columns import text_pair
from pairscore.runtime.stream.score_columns import ScoreColumns
from pairscore.runtime.typed_json import from_plain


@dataclass(frozen=True)
class OldFile:
    """One Parquet file of a finished output. `text_columns`: claim and evidence. `score_columns`: one a label.

    `number_columns`: the others that are taken. `logits`: whether its scores are logits, and this run's are not.
    """

    output: Written
    path: str
    text_columns: tuple[str, str]
    score_columns: tuple[str, ...]
    number_columns: tuple[str, ...] = ()
    logits: bool = False


def check_not_own(urls: Sequence[str], output: Output) -> None:
    """Raise PairscoreError where one of `urls` is the output of this run."""
    for url in urls:
        if _is_own(*open_storage(url), output):
            raise PairscoreError(f"--reuse {url!r} is this run's own output: name an earlier one")


def recorded_settings(urls: Sequence[str]) -> RunSettings | None:
    """The settings that the first of these outputs was scored with; None where they cannot be read.

    `find_old_files` says what is wrong with it.
    """
    try:
        output = find_written(urls[0])
        settings: RunSettings = from_plain(RunSettings, part_figures(output.metadata(output.paths[0]))["settings"])
        return settings
    except (PairscoreError, OSError, ValueError, KeyError, IndexError):
        return None


def find_old_files(urls: Sequence[str], settings: RunSettings, scorer: Scorer, columns: ScoreColumns) -> list[OldFile]:
    """The files of the finished outputs at `urls`, in order, after a look at every footer.

    settings, scorer, columns: of this run. Raises PairscoreError for an output that is not there, not finished,
    damaged, without its texts or a column that this run adds, or scored by something else than this run would.
    """
    found = []
    for url in urls:
        output = find_written(url, "--reuse")
        if not output.whole:
            raise PairscoreError(f"--reuse {url!r} is not finished: end its run first, or leave it out")
        found += [_checked(output, path, settings, scorer, columns) for path in output.paths]
    return found


def read_old_scores(files: Sequence[OldFile], scorer: Scorer, columns: ScoreColumns) -> OldScores:
    """All their scored pairs, to be looked up; the first file counts where several hold a pair.

    Logits become scores with the scorer's activation. Memory stays bounded: the scores lie in temporary files, about 80
    bytes a pair. Raises PairscoreError for a file that is damaged or a disk that is full.
    """
    scores = OldScores(len(columns.labels), numbers=len(columns.number_fields))
    try:
        with closing(ahead(_tables(files), "pairscore-reuse")) as tables:
            for file, table in tables:
                claims, evidence, _ = text_pair(table, file.text_columns)
                found = np.stack([table.column(name).to_numpy() for name in file.score_columns], axis=1)
                numbers = [table.column(name).cast(pa.int32()).to_numpy() for name in file.number_columns]
                scores.add(
                    claims,
                    evidence,
                    scorer.scores(found) if file.logits else found,
                    np.stack(numbers, axis=1) if numbers else None,
                )
        scores.seal()
    except BaseException:
        scores.close()
        raise
    return scores


def _tables(files: Sequence[OldFile]) -> Generator[tuple[OldFile, pa.Table], None, None]:
    """The rows that have a score, a window at a time."""
    for file in files:
        columns = [*file.text_columns, *file.score_columns, *file.number_columns]
        for table in file.output.tables(file.path, columns, file.text_columns, sealed=True):
            yield file, table.filter(table.column(file.score_columns[0]).is_valid())


def _checked(output: Written, path: str, settings: RunSettings, scorer: Scorer, columns: ScoreColumns) -> OldFile:
    display, metadata = output.storage.display(path), output.metadata(path)
    try:
        old = part_figures(metadata)["settings"]
        text_columns = (str(old["claim_column"]), str(old["evidence_column"]))
        was: RunSettings = from_plain(RunSettings, old).of_scores
        differing = [name for name in _decisive(columns) if getattr(was, name) != getattr(settings, name)]
    except (ValueError, KeyError, TypeError) as error:
        raise PairscoreError(
            f"--reuse {display!r} does not say what scored it: name an output of this release of `pairscore score`"
        ) from error
    if differing:
        name = differing[0]
        theirs, ours, label = getattr(was, name), getattr(settings, name), SCORE_SETTINGS[name]
        remedy = f"give {option_of(name)} {theirs} here, or leave it out" if name in shown_options() else "leave it out"
        raise PairscoreError(
            f"--reuse {display!r} was scored with {label} {str(theirs)[:16]}, and this run takes {str(ours)[:16]}: "
            f"{remedy}"
        )
    names = metadata.schema.to_arrow_schema().names
    old_columns = replace(columns, score=was.score_column, truncated=columns.truncated and was.truncated_column)
    score_columns = tuple(field.name for field in old_columns.score_fields)
    number_columns = tuple(field.name for field in old_columns.number_fields)
    if len(number_columns) < len(columns.number_fields) or not set(number_columns) <= set(names):
        missing = "--truncated-column" if columns.truncated and not was.truncated_column else "--passage-columns"
        raise PairscoreError(
            f"--reuse {display!r} was scored without {missing}, so its pairs' values are not known: leave {missing} or "
            "the old output out"
        )
    for name in (*text_columns, *score_columns):
        if name not in names:
            raise PairscoreError(
                f"--reuse {display!r} has no column {name!r}: without the texts beside the scores nothing can be "
                "reused; score it with --keep for both texts"
            )
    logits = _are_logits(display, was, settings, scorer, columns)
    return OldFile(output, path, text_columns, score_columns, number_columns, logits)


def _decisive(columns: ScoreColumns) -> list[str]:
    """The settings that have to agree. The label that passages are ranked by decides scores where there are several."""
    ranked = columns.long is not None and len(columns.labels) > 1
    return [name for name in SCORE_SETTINGS if ranked or name != "rank_by"]


def _are_logits(display: str, was: RunSettings, settings: RunSettings, scorer: Scorer, columns: ScoreColumns) -> bool:
    """Whether the old scores are logits that this run's activation makes its scores of; False where they are equal.

    Scores of passages are combined behind the activation. Only the largest of one label's is found before it as well.
    Raises PairscoreError for scores of another activation.
    """
    own = scorer.bundle.manifest.activation
    theirs, ours = was.activation or own, settings.activation or own
    if theirs == ours:
        return False
    monotone = columns.long is None or (columns.long.combine == "max" and len(columns.labels) == 1)
    if theirs != "identity" or not monotone:
        raise PairscoreError(
            f"--reuse {display!r} holds scores of activation {theirs}, and this run's is {ours}: only logits "
            "(--activation identity) can be given another; leave it out, or give the same --activation"
        )
    return True


def _is_own(storage: Storage, path: str, output: Output) -> bool:
    """Whether a path is the output, its folder of parts, or within that."""
    if storage.scheme != output.storage.scheme:
        return False
    places = [output.folder] if output.file is None else [output.folder, output.file]
    if storage.scheme == "file":
        path, places = str(Path(path).resolve()), [str(Path(place).resolve()) for place in places]
    return any(f"{path.rstrip('/')}/".startswith(f"{place}/") for place in places)
