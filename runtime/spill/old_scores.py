"""Scores of pairs by their texts, for as many pairs as the disk holds.

A pair's key is the BLAKE2b digests of its claim and of its evidence, 256 bits each: two texts with one digest are not
known to anybody, so equal keys mean equal texts. Records (a 64-bit hash of the key, the key, the scores) lie in buckets
on disk, each sorted by hash. A window of pairs is looked up bucket by bucket with a binary search over the hashes; a
record counts only when its whole key is the pair's.
"""

import hashlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairscore.runtime.spill.buckets import Buckets, open_temporary, split, write
from pairscore.runtime.types import FloatArray, Int32Array

_WORDS = 8  # a key, in words of 64 bits
# An odd number near 2^64 divided by the golden ratio: makes (a, b) and (b, a) fall apart.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)

UInt64Array = npt.NDArray[np.uint64]


class OldScores:
    """Filled with `add`, closed with `seal`, then asked with `lookup`. One thread at a time.

    `labels`: scores a pair. `numbers`: whole numbers of 32 bits beside them. `folder`: of the temporary files; None for
    the system's. `hash_bits`: fewer than 64 make hashes collide, which costs time and changes nothing.
    """

    def __init__(self, labels: int, folder: Path | None = None, hash_bits: int = 64, numbers: int = 0) -> None:
        self._kinds = {"scores": ("f4", labels), "numbers": ("i4", numbers)}
        self._folder = folder
        self._dropped = np.uint64(64 - hash_bits)
        values = [(name, kind, (width,)) for name, (kind, width) in self._kinds.items()]
        dtype = np.dtype([("hash", "u8"), ("key", "u8", (_WORDS,)), *values])
        self._dtype = dtype
        self._buckets = Buckets(dtype, folder)
        self._sorted: list[_SortedBucket] = []
        self.pairs = 0

    def add(
        self, claims: pa.StringArray, evidence: pa.StringArray, scores: FloatArray, numbers: Int32Array | None = None
    ) -> None:
        """Add scored pairs. claims, evidence: Shape (n,), without nulls. scores: Shape (n, labels). numbers: Shape (n,
        numbers).
        """
        records = np.empty(len(claims), self._dtype)
        records["key"] = pair_keys(claims, evidence)
        records["hash"] = self._hashes(records["key"])
        records["scores"] = scores
        if numbers is not None:
            records["numbers"] = numbers
        self._buckets.append(records["hash"], records)
        self.pairs += len(records)

    def seal(self) -> None:
        """Sort what was added; nothing can be added any more."""
        for records in self._buckets.take():
            self._sorted.append(_SortedBucket(records, self._kinds, self._folder))

    def lookup(
        self, claims: pa.StringArray, evidence: pa.StringArray
    ) -> tuple[npt.NDArray[np.bool_], FloatArray, Int32Array]:
        """Which pairs have a score, Shape (n,); their scores, Shape (n, labels), and numbers, Shape (n, numbers).

        Both are zero for the other pairs. Of a pair that was added several times, the first score counts.
        """
        keys = pair_keys(claims, evidence)
        hashes = self._hashes(keys)
        known = np.zeros(len(keys), dtype=bool)
        values = [np.zeros((len(keys), width), dtype=kind) for kind, width in self._kinds.values()]
        for bucket, rows in split(hashes):
            self._sorted[bucket].find(hashes, keys, rows, known, values)
        scores, numbers = values
        return known, scores, numbers

    def close(self) -> None:
        """Give the disk back."""
        self._buckets.close()
        for bucket in self._sorted:
            bucket.close()

    def _hashes(self, keys: UInt64Array) -> UInt64Array:
        hashes = keys[:, 0] * _SPREAD + keys[:, _WORDS // 2]
        return (hashes >> self._dropped) << self._dropped if self._dropped else hashes


class _SortedBucket:
    """Hashes, then keys, scores and numbers, in one file. Mapped only while it is read: no pages stay resident."""

    def __init__(self, records: npt.NDArray[Any], kinds: dict[str, tuple[str, int]], folder: Path | None) -> None:
        self._rows = len(records)
        self._kinds = kinds
        self._file: IO[bytes] = open_temporary(folder)
        order = np.argsort(records["hash"], kind="stable")
        for name in ("hash", "key", *kinds):
            write(self._file, folder, records[name][order])
        self._file.flush()

    def find(
        self,
        hashes: UInt64Array,
        keys: UInt64Array,
        rows: npt.NDArray[np.int64],
        known: npt.NDArray[np.bool_],
        values: list[npt.NDArray[Any]],
    ) -> None:
        """Fill `known` and `values` for those of `rows` that are here."""
        if not self._rows:
            return
        my_hashes = self._mapped("u8", 0, (self._rows,))
        my_keys = self._mapped("u8", 8 * self._rows, (self._rows, _WORDS))
        mine, start = [], 8 * (1 + _WORDS) * self._rows
        for kind, width in self._kinds.values():
            mine.append(self._mapped(kind, start, (self._rows, width)) if width else np.empty((self._rows, 0), kind))
            start += 4 * width * self._rows
        rows = rows[np.argsort(hashes[rows])]
        places = np.searchsorted(my_hashes, hashes[rows])
        while len(rows):
            inside = places < self._rows
            rows, places = rows[inside], places[inside]
            same_hash = my_hashes[places] == hashes[rows]
            rows, places = rows[same_hash], places[same_hash]
            equal = (my_keys[places] == keys[rows]).all(axis=1)
            known[rows[equal]] = True
            for found, own in zip(values, mine, strict=True):
                found[rows[equal]] = own[places[equal]]
            rows, places = rows[~equal], places[~equal] + 1  # another key of this hash may follow

    def close(self) -> None:
        self._file.close()

    def _mapped(self, dtype: str, offset: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return np.memmap(self._file, dtype=dtype, mode="r", offset=offset, shape=shape)


def pair_keys(claims: pa.StringArray, evidence: pa.StringArray) -> UInt64Array:
    """Shape (n, 8): the digests of each pair's two texts. claims, evidence: Shape (n,), without nulls."""
    return np.concatenate([text_digests(claims), text_digests(evidence)], axis=1)


def text_digests(texts: pa.Array) -> UInt64Array:
    """BLAKE2b of each text, Shape (n, 4); each different text is read once. Raises TypeError for a null."""
    codes = texts.dictionary_encode()
    different = codes.dictionary.cast(pa.large_binary()).to_pylist()
    digests = b"".join([hashlib.blake2b(text, digest_size=32).digest() for text in different])
    rows: npt.NDArray[np.int64] = codes.indices.to_numpy()
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, _WORDS // 2)[rows]
