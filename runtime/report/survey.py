"""A look at a scored output of any size: how scores and lengths are spread, and the best and worst rows of some claims.

The footers are read first (names of columns, numbers of rows, the range of the scores), then the rows once, batch by
batch. What stays in memory is counts and the few rows that are shown.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore.runtime.arguments import python_call
from pairscore.runtime.errors import PairscoreError, quoted
from pairscore.runtime.input.written import Written, find_written
from pairscore.runtime.storage.sealing import part_figures

_BINS = 20
# Lengths are counted in powers of two, up to 2^20 characters.
_LENGTH_BINS = 21


@dataclass(frozen=True)
class EvidenceRow:
    """A row that is shown. `place`: its row number in the output, from 0."""

    score: float
    place: int
    evidence: str


@dataclass
class ClaimRows:
    """Rows of one claim that have a score: how many, the best ones from the top, the worst ones from the bottom.

    `label`: whose score counts, where there are several; of these only the best rows are shown.
    """

    claim: str
    label: str = ""
    rows: int = 0
    best: list[EvidenceRow] = field(default_factory=list)
    worst: list[EvidenceRow] = field(default_factory=list)

    def add(self, found: Sequence[EvidenceRow], rows: int, most: int) -> None:
        """Count `rows` more, among which `found` are the best and the worst. most: rows to keep of each."""
        self.rows += rows
        self.best = heapq.nsmallest(most, {*self.best, *found}, key=lambda row: (-row.score, row.place))
        self.worst = heapq.nsmallest(most, {*self.worst, *found}, key=lambda row: (row.score, -row.place))

    def without_overlap(self) -> "ClaimRows":
        """The same with no row among the worst that is among the best."""
        worst = [] if self.label else [row for row in self.worst if row not in self.best]
        return ClaimRows(self.claim, self.label, self.rows, self.best, worst)


@dataclass(frozen=True)
class Histogram:
    """`counts`: Shape (bins,). `edges`: Shape (bins + 1,)."""

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]

    def quantile(self, share: float) -> float:
        """The value below which `share` of what was counted lies, as exact as the bins are wide."""
        total = self.counts.sum()
        if not total:
            return float("nan")
        ends = np.cumsum(self.counts) / total
        place = int(np.searchsorted(ends, share))
        before = ends[place - 1] if place else 0.0
        inside = (share - before) / max(ends[place] - before, 1e-12)
        return float(self.edges[place] + inside * (self.edges[place + 1] - self.edges[place]))


@dataclass(frozen=True)
class Survey:
    """What was seen. `scores`: score column -> its spread. `lengths`: text column -> characters, by powers of two.

    `unscored`: rows without a score. `metadata`: the output's own, empty where it has none. `truncated`: of the `pairs`
    that its runs computed, those that were cut. `whole`: whether its run has ended.
    """

    name: str
    whole: bool
    rows: int
    unscored: int
    files: int
    metadata: dict[str, Any]
    truncated: int
    pairs: int
    scores: dict[str, Histogram]
    lengths: dict[str, Histogram]
    claims: tuple[ClaimRows, ...]


@python_call(claims=1, rows=1)
def survey(
    output: str | Path,
    *,
    claim_column: str | None = None,
    evidence_column: str | None = None,
    score_column: str | None = None,
    text: str | None = None,
    claims: int = 6,
    rows: int = 2,
) -> Survey:
    """Look through an output of `pairscore score`: spread of the scores, lengths, best and worst rows of some claims.

    `output`: a Parquet file or a folder of parts. Columns: None for those that the output's metadata names, or else
    `claim`, `evidence` and `score`. `text`: show claims that contain it, whatever the case; None for claims from all
    over the output. `claims`: how many claims to show. `rows`: how many of the best and of the worst rows of each.

    Raises PairscoreError for what is no Parquet, has no score column, or no claim that contains the text.
    """
    url = str(output)
    written = find_written(url)
    footers = {path: written.metadata(path) for path in written.paths}
    first = next(iter(footers.values()), None)
    if first is None:
        raise PairscoreError(f"output {url!r} holds no part yet: look again later")
    metadata, schema = _metadata_of(first), first.schema.to_arrow_schema()
    statistics = [_metadata_of(footer).get("statistics", {}) for footer in footers.values()]
    named = metadata.get("settings", {})
    claim, evidence, score = (
        str(given or named.get(f"{kind}_column") or kind)
        for kind, given in (("claim", claim_column), ("evidence", evidence_column), ("score", score_column))
    )
    score_names = [name for name in schema.names if name == score or name.startswith(f"{score}_")]
    score_names = [name for name in score_names if pa.types.is_floating(schema.field(name).type)]
    if not score_names:
        raise PairscoreError(f"{url!r} has no column {score!r} of scores: it has {', '.join(schema.names)}")
    _check_named((claim_column, evidence_column), schema.names, url)
    texts = [name for name in (claim, evidence) if name in schema.names]
    if text is not None and len(texts) < 2:
        raise PairscoreError(f"{url!r} lacks column {claim!r} or {evidence!r}: without both no claim can be shown")
    labels = [name.removeprefix(f"{score}_") if len(score_names) > 1 else "" for name in score_names]
    found: dict[str, list[ClaimRows]] = {}
    if text is None and len(texts) == 2:
        spread = _spread_claims(written, footers, claim, score_names[0], claims)
        found = {each: [ClaimRows(each, label) for label in labels] for each in spread}
    edges = {name: _edges(written, footers, name) for name in score_names}
    counts = {name: np.zeros(_BINS, np.int64) for name in score_names}
    lengths = {name: np.zeros(_LENGTH_BINS, np.int64) for name in texts}
    total = scored = 0
    for window in chain.from_iterable(written.tables(path, [*texts, *score_names], texts) for path in footers):
        numbers = pa.array(np.arange(total, total + window.num_rows))
        total += window.num_rows
        table = window.append_column("", numbers).filter(window.column(score_names[0]).is_valid())
        scored += table.num_rows
        for name in score_names:
            counts[name] += np.histogram(table.column(name).to_numpy(), edges[name])[0]
        for name in texts:
            characters = pc.call_function("utf8_length", [table.column(name).cast(pa.large_string())]).to_numpy()
            powers = np.ceil(np.log2(np.maximum(characters, 1))).astype(np.int64)
            lengths[name] += np.bincount(np.minimum(powers, _LENGTH_BINS - 1), minlength=_LENGTH_BINS)
        if len(texts) == 2:
            for each in _matching(table.column(claim), text) if text is not None else ():
                if len(found) < claims:
                    found.setdefault(each, [ClaimRows(each, label) for label in labels])
            for place, name in enumerate(score_names):
                _add_rows(table, (claim, evidence, name), {each: many[place] for each, many in found.items()}, rows)
    if text is not None and not found:
        raise PairscoreError(f"no claim of {url!r} contains {text!r}: give a part of a claim's text")
    powers_of_two = np.concatenate([[0.0], 2.0 ** np.arange(_LENGTH_BINS)])
    return Survey(
        name=url,
        whole=written.whole,
        rows=total,
        unscored=total - scored,
        files=len(footers),
        metadata=metadata,
        truncated=sum(each.get("truncated", 0) for each in statistics),
        pairs=sum(each.get("pairs", 0) for each in statistics),
        scores={name: Histogram(counts[name], edges[name]) for name in score_names},
        lengths={name: Histogram(each, powers_of_two) for name, each in lengths.items()},
        claims=tuple(each.without_overlap() for many in found.values() for each in many if each.rows),
    )


def _check_named(asked: Sequence[str | None], names: Sequence[str], url: str) -> None:
    for name in asked:
        if name is not None and name not in names:
            raise PairscoreError(f"{url!r} has no column {name!r}: it has {quoted(names)}")


def _metadata_of(footer: pq.FileMetaData) -> dict[str, Any]:
    try:
        found = part_figures(footer)
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def _edges(output: Written, footers: Mapping[str, pq.FileMetaData], name: str) -> npt.NDArray[np.float64]:
    """Bins from 0 to 1 for probabilities, else from the lowest score to the highest: from statistics where possible."""
    lowest, highest = np.inf, -np.inf
    for path, footer in footers.items():
        place = next(leaf for leaf in range(footer.num_columns) if footer.schema.column(leaf).path == name)
        for group in range(footer.num_row_groups):
            statistics = footer.row_group(group).column(place).statistics
            if statistics is not None and statistics.has_min_max:
                lowest, highest = min(lowest, statistics.min), max(highest, statistics.max)
            elif footer.row_group(group).num_rows and (statistics is None or statistics.num_values):
                for table in output.tables(path, [name], []):
                    values = table.column(name).drop_null().to_numpy()
                    if len(values):
                        lowest, highest = min(lowest, values.min()), max(highest, values.max())
                break
    if lowest >= 0 and highest <= 1:
        lowest, highest = 0.0, 1.0
    if not lowest < highest:
        lowest, highest = (lowest - 0.5, lowest + 0.5) if np.isfinite(lowest) else (0.0, 1.0)
    return np.linspace(lowest, highest, _BINS + 1)


def _spread_claims(
    output: Written, footers: Mapping[str, pq.FileMetaData], claim: str, score: str, most: int
) -> list[str]:
    """Claims of scored rows from all over the output, in order: one from each of `most` equal shares of the row groups,
    more where these give fewer.
    """
    groups = [(path, group) for path, footer in footers.items() for group in range(footer.num_row_groups)]
    chosen: dict[str, None] = {}
    for place in sorted({number * len(groups) // most for number in range(most)} if groups else ()):
        path, group = groups[place]
        table = pa.concat_tables(output.tables(path, [claim, score], [], [group]))
        claims = table.filter(table.column(score).is_valid()).column(claim).drop_null()
        different = claims.cast(pa.string()).unique()
        wanted = max(1, -(-most // len(groups)))
        step = max(1, len(different) // wanted)
        chosen.update(dict.fromkeys(different.take(pa.array(range(0, len(different), step)[:wanted])).to_pylist()))
    return list(chosen)[:most]


def _matching(claims: pa.ChunkedArray, text: str) -> list[str]:
    """The different claims that contain the text, whatever the case."""
    names = claims.cast(pa.string())
    options = pc.MatchSubstringOptions(text, ignore_case=True)
    found: list[str] = names.filter(pc.call_function("match_substring", [names], options)).unique().to_pylist()
    return found


def _add_rows(table: pa.Table, columns: tuple[str, str, str], found: dict[str, ClaimRows], rows: int) -> None:
    """Add a table's rows of the claims that are shown. Its last column is the row numbers.

    columns: claim, evidence, score.
    """
    claim_texts = table.column(columns[0]).cast(pa.string())
    mine = pc.call_function("is_in", [claim_texts], pc.SetLookupOptions(pa.array(list(found), pa.string())))
    places = np.flatnonzero(mine.to_numpy())
    if not len(places):
        return
    names = claim_texts.take(pa.array(places)).combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy()
    scores = table.column(columns[2]).to_numpy()[places]
    for code, name in enumerate(names.dictionary.to_pylist()):
        of_claim = np.flatnonzero(codes == code)
        order = of_claim[np.argsort(-scores[of_claim], kind="stable")]
        few = pa.array(places[np.unique(np.concatenate([order[:rows], order[-rows:]]))])
        evidence = table.column(columns[1]).take(few).cast(pa.string()).to_pylist()
        numbers = table.column(table.num_columns - 1).take(few).to_pylist()
        shown = zip(table.column(columns[2]).take(few).to_pylist(), numbers, evidence, strict=True)
        found[name].add([EvidenceRow(*each) for each in shown], len(of_claim), rows)
