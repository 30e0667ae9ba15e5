"""Many different pairs, made by crossing a file's claims with its evidence."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.benchmarks.loaders import Pairs

_CHUNK_ROWS = 100_000
_SCHEMA = pa.schema([("id", pa.int64()), ("claim", pa.string()), ("evidence", pa.string())])


def write_crossed(pairs: Path, folder: Path, rows: int, files: int, row_group: int) -> None:
    """`rows` different pairs in `files` files of equal size. Raises ValueError when there are not enough texts."""
    claims, evidence = _texts(pairs, rows)
    folder.mkdir(parents=True)
    for place in range(files):
        first, stop = rows * place // files, rows * (place + 1) // files
        table = pa.concat_tables(_crossed(claims, evidence, first, stop))
        pq.write_table(table, folder / f"pairs-{place:03d}.parquet", row_group_size=row_group)


def crossed_pairs(pairs: Path, rows: int) -> Pairs:
    """The first `rows` of them, in memory."""
    table = pa.concat_tables(_crossed(*_texts(pairs, rows), 0, rows))
    return list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))


def _texts(pairs: Path, rows: int) -> tuple[pa.Array, pa.Array]:
    table = pq.read_table(pairs, columns=["claim", "evidence"])
    claims, evidence = (table[name].unique().drop_null() for name in ("claim", "evidence"))
    if len(claims) * len(evidence) < rows:
        raise ValueError(f"{len(claims)} claims and {len(evidence)} pieces of evidence make fewer than {rows} pairs")
    return claims, evidence


def _crossed(claims: pa.Array, evidence: pa.Array, first: int, stop: int) -> Iterator[pa.Table]:
    for start in range(first, stop, _CHUNK_ROWS):
        ids = range(start, min(start + _CHUNK_ROWS, stop))
        # Neighbours share no text, and no two pairs are the same: a diagonal walk over the grid.
        of_claim = pa.array([row % len(claims) for row in ids])
        of_evidence = pa.array([(row // len(claims) + row % len(claims)) % len(evidence) for row in ids])
        columns = [pa.array(ids, pa.int64()), claims.take(of_claim), evidence.take(of_evidence)]
        yield pa.table(columns, schema=_SCHEMA)
