"""`--reuse`: scores that a finished output already holds, checked to be what this run would compute."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.old_scores import OldScores
from pairscore.runtime.job.options import SCORE_SETTINGS, RunSettings, option_of, shown_options
from pairscore.runtime.job.output.layout import Output
from pairscore.runtime.job.output.written import Written, find_written
from pairscore.runtime.job.parts import figures
from pairscore.runtime.storage.local import Storage, open_storage
from pairscore.runtime.stream.background import ahead
from pairscore.runtime.stream.columns import score_fields, text_pair
from pairscore.runtime.typed_json import from_plain


@dataclass(frozen=True)
class OldFile:
    """One Parquet file of a finished output. `text_columns`: claim and evidence. `score_columns`: one a label."""

    output: Written
    path: str
    text_columns: tuple[str, str]
    score_columns: tuple[str, ...]


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
        settings: RunSettings = from_plain(RunSettings, figures(output.metadata(output.paths[0]))["settings"])
        return settings
    except (PairscoreError, OSError, ValueError, KeyError, IndexError):
        return None


def find_old_files(urls: Sequence[str], settings: RunSettings, labels: Sequence[str]) -> list[OldFile]:
    """The files of the finished outputs at `urls`, in order, after a look at every footer.

    settings: of this run. Raises PairscoreError for an output that is not there, not finished, damaged, without its
    texts, or scored by something else than this run would.
    """
    found = []
    for url in urls:
        output = find_written(url, "--reuse")
        if not output.whole:
            raise PairscoreError(f"--reuse {url!r} is not finished: end its run first, or leave it out")
        found += [_checked(output, path, settings, labels) for path in output.paths]
    return found


def read_old_scores(files: Sequence[OldFile], labels: int) -> OldScores:
    """All their scored pairs, to be looked up; the first file counts where several hold a pair.

    Memory stays bounded: the scores lie in temporary files, about 80 bytes a pair. Raises PairscoreError for a file
    that is damaged or a disk that is full.
    """
    scores = OldScores(labels)
    try:
        with closing(ahead(_tables(files), "pairscore-reuse")) as tables:
            for file, table in tables:
                claims, evidence, _ = text_pair(table, file.text_columns)
                columns = [table.column(name).to_numpy() for name in file.score_columns]
                scores.add(claims, evidence, np.stack(columns, axis=1))
        scores.seal()
    except BaseException:
        scores.close()
        raise
    return scores


def _tables(files: Sequence[OldFile]) -> Generator[tuple[OldFile, pa.Table], None, None]:
    """The rows that have a score, a window at a time."""
    for file in files:
        columns = [*file.text_columns, *file.score_columns]
        for table in file.output.tables(file.path, columns, file.text_columns, sealed=True):
            yield file, table.filter(table.column(file.score_columns[0]).is_valid())


def _checked(output: Written, path: str, settings: RunSettings, labels: Sequence[str]) -> OldFile:
    display, metadata = output.storage.display(path), output.metadata(path)
    try:
        old = figures(metadata)["settings"]
        text_columns = (str(old["claim_column"]), str(old["evidence_column"]))
        score_columns = tuple(field.name for field in score_fields(labels, str(old["score_column"])))
        was = from_plain(RunSettings, old)
        differing = [name for name in SCORE_SETTINGS if getattr(was, name) != getattr(settings, name)]
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
    for name in (*text_columns, *score_columns):
        if name not in metadata.schema.to_arrow_schema().names:
            raise PairscoreError(
                f"--reuse {display!r} has no column {name!r}: without the texts beside the scores nothing can be "
                "reused; score it with --keep for both texts"
            )
    return OldFile(output, path, text_columns, score_columns)


def _is_own(storage: Storage, path: str, output: Output) -> bool:
    """Whether a path is the output, its folder of parts, or within that."""
    if storage.scheme != output.storage.scheme:
        return False
    places = [output.folder] if output.file is None else [output.folder, output.file]
    if storage.scheme == "file":
        path, places = str(Path(path).resolve()), [str(Path(place).resolve()) for place in places]
    return any(f"{path.rstrip('/')}/".startswith(f"{place}/") for place in places)
