"""The fast tokenizer gives the library's ids, or it is not used."""

import json
import logging
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pairscore.runtime.text import wordpiece as fast_tokenizer
from pairscore.runtime.text.difficult_texts import probe_texts
from pairscore.runtime.text.ragged import Ragged
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.text.wordpiece import CheckedNanotoken, EncodeTexts, is_supported, load, sampled
from tests.checkpoints import FAMILIES

WORDPIECE = ("bert", "distilbert", "electra")
MANY = [f"sea level {number} café [SEP] rise" for number in range(1500)]

specials = st.sampled_from(["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]", "[sep]", "[SEP", "##ing"])
texts = st.one_of(
    st.text(max_size=80),
    st.lists(st.one_of(specials, st.text(max_size=6), st.sampled_from(["climate", "a" * 100, "é" * 101]))).map(
        " ".join
    ),
    st.lists(st.one_of(specials, st.text(max_size=3))).map("".join),
)

needs_nanotoken = pytest.mark.skipif(find_spec("nanotoken") is None, reason="nanotoken is not installed")


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What one test makes of nanotoken, the next one does not know."""
    event = threading.Event()
    monkeypatch.setattr(fast_tokenizer, "distrusted", event)
    return event


@pytest.fixture(scope="module", params=("bert", "distilbert"))  # lower-cased and cased; ELECTRA's is BERT's
def file(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Path:
    return checkpoint(request.param) / "tokenizer.json"


def description(path: Path) -> dict[str, Any]:
    return json.loads(Tokenizer.from_file(str(path)).to_str())


def library(path: Path) -> EncodeTexts:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda texts: Ragged.from_lists(
        [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    )


def same(first: Ragged, second: Ragged) -> bool:
    return np.array_equal(first.values, second.values) and np.array_equal(first.offsets, second.offsets)


class Fake:
    """A fast tokenizer that is the library, except where `wrong` says otherwise; it counts its calls."""

    def __init__(self, path: Path, wrong: Callable[[list[str], Ragged], Ragged]) -> None:
        self._library, self._wrong, self.calls = library(path), wrong, 0

    def load(self, description: dict[str, Any]) -> EncodeTexts:
        del description
        return self.encode

    def encode(self, texts: list[str]) -> Ragged:
        self.calls += 1
        return self._wrong(texts, self._library(texts))


def use(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setattr(fast_tokenizer, "load", fake.load)


def with_one_more(rows: Iterator[int], encoded: Ragged) -> Ragged:
    values = encoded.values.copy()
    for row in rows:
        if encoded.lengths[row]:
            values[encoded.offsets[row]] += 1
    return Ragged(values, encoded.offsets)


# nanotoken against the library ---------------------------------------------------------------------------


@needs_nanotoken
@settings(max_examples=150)
@given(st.lists(texts, min_size=1, max_size=8))
def test_any_text_gets_the_ids_of_the_library(file: Path, unique: list[str]) -> None:
    assert same(_nanotoken(file)(unique), library(file)(unique))


@needs_nanotoken
def test_every_code_point_gets_the_ids_of_the_library(file: Path) -> None:
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    whole = [" ".join(f"a{point}b {point}" for point in points[start : start + 64]) for start in range(0, 0x10F800, 64)]
    assert same(_nanotoken(file)(whole), library(file)(whole))


@needs_nanotoken
def test_long_and_strange_texts(file: Path) -> None:
    strange = ["", "\x00", "a\x00[SEP]\x00b", "sea level " * 100_000, "x" * 1_000_000, "é" * 500_000, "[SEP]" * 50_000]
    assert same(_nanotoken(file)(strange), library(file)(strange))


@needs_nanotoken
def test_it_is_used_for_many_texts_and_gives_the_ids_of_the_library(
    file: Path, caplog: pytest.LogCaptureFixture, trusted: threading.Event
) -> None:
    def refused(texts: list[str]) -> Ragged:
        if len(texts) > len(MANY) // 2:
            raise AssertionError("everything is encoded by the library")
        return library(file)(texts)

    encoded = CheckedNanotoken(Tokenizer.from_file(str(file)), refused).encode(MANY)
    assert encoded is not None
    assert same(encoded, library(file)(MANY))
    assert encoded.values.dtype == np.int32
    assert encoded.offsets.dtype == np.int64
    assert not trusted.is_set()
    assert not caplog.records


_opened: dict[Path, EncodeTexts] = {}


def _nanotoken(path: Path) -> EncodeTexts:
    if path not in _opened:
        encode = load(description(path))
        assert encode is not None
        _opened[path] = encode
    return _opened[path]


# When it is used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_only_wordpiece_is_supported(
    family: str, checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(family) / "tokenizer.json"
    assert is_supported(description(path)) == (family in WORDPIECE)
    fake = Fake(path, lambda _, encoded: encoded)
    use(monkeypatch, fake)
    assert same(PairTokenizer.from_file(path, 64).encode(MANY), library(path)(MANY))
    assert fake.calls == (2 if family in WORDPIECE else 0)  # the fixed texts, then these


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("normalizer", None),
        ("normalizer", {"type": "Lowercase"}),
        ("normalizer", {"type": "Sequence", "normalizers": []}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", None),
        ("model", {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}),
        ("added_tokens", [{"content": "x", "special": False, "normalized": True}]),
        ("added_tokens", [{"content": "[MASK]", "lstrip": True, "rstrip": False, "single_word": False}]),
    ],
)
def test_other_settings_are_not_supported(checkpoint: Callable[..., Path], place: str, value: object) -> None:
    known = description(checkpoint("bert") / "tokenizer.json")
    assert is_supported(known)
    assert not is_supported({**known, place: value})


def test_special_tokens_that_are_to_be_split_are_not_supported(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint("bert") / "tokenizer.json"
    use(monkeypatch, fake := Fake(path, lambda _, encoded: encoded))
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    assert CheckedNanotoken(tokenizer, library(path)).encode(MANY) is None
    assert fake.calls == 0


def test_few_texts_do_not_even_import_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fake := Fake(file, lambda _, encoded: encoded))
    few = MANY[: fast_tokenizer.LEAST_TEXTS - 1]
    assert same(PairTokenizer.from_file(file, 64).encode(few), library(file)(few))
    assert fake.calls == 0


def test_it_can_be_prepared_before_the_first_texts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fake := Fake(file, lambda _, encoded: encoded))
    tokenizer = PairTokenizer.from_file(file, 64)
    tokenizer.prepare(fast_tokenizer.LEAST_TEXTS - 1)
    assert fake.calls == 0
    tokenizer.prepare(fast_tokenizer.LEAST_TEXTS)
    assert fake.calls == 1  # the fixed texts
    tokenizer.encode(MANY)
    assert fake.calls == 2


def test_without_it_everything_works_in_silence(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast_tokenizer, "find_spec", lambda name: None)
    assert same(PairTokenizer.from_file(file, 64).encode(MANY), library(file)(MANY))
    assert not caplog.records


# When it is wrong ----------------------------------------------------------------------------------------


class PanicException(BaseException):
    """As a panic in Rust arrives."""


def _raises(error: BaseException) -> Callable[[list[str], Ragged], Ragged]:
    def wrong(texts: list[str], encoded: Ragged) -> Ragged:
        if texts == MANY:
            raise error
        return encoded

    return wrong


def _only_for_many(change: Callable[[Ragged], Ragged]) -> Callable[[list[str], Ragged], Ragged]:
    return lambda texts, encoded: change(encoded) if texts == MANY else encoded


FAULTS = {
    "one token of the fixed texts": lambda texts, encoded: with_one_more(
        (row for row, text in enumerate(texts) if "\u0344" in text), encoded
    ),
    "text beyond ASCII": _only_for_many(lambda encoded: with_one_more(range(0, len(encoded), 2), encoded)),
    "a row too few": _only_for_many(lambda encoded: Ragged(encoded.values, encoded.offsets[:-1])),
    "values too few": _only_for_many(lambda encoded: Ragged(encoded.values[:-1], encoded.offsets)),
    "a token moved to the next text": _only_for_many(
        lambda encoded: Ragged(
            encoded.values, np.r_[encoded.offsets[:1], encoded.offsets[1:-1] - 1, encoded.offsets[-1]]
        )
    ),
    "an error": _raises(RuntimeError("no")),
    "a panic": _raises(PanicException("index out of bounds")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_difference_ends_its_use_for_good(
    file: Path, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, fake := Fake(file, FAULTS[fault]))
    tokenizer = PairTokenizer.from_file(file, 64)
    with caplog.at_level(logging.WARNING, "pairscore"):
        assert same(tokenizer.encode(MANY), library(file)(MANY))
        calls = fake.calls
        assert calls > 0
        assert same(tokenizer.encode(MANY), library(file)(MANY))
        assert same(PairTokenizer.from_file(file, 64).encode(MANY), library(file)(MANY))
    assert fake.calls == calls
    (record,) = caplog.records
    assert "tokenizers alone" in record.getMessage()


def test_a_tokenizer_that_it_cannot_open_is_a_difference(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(description: dict[str, Any]) -> EncodeTexts:
        raise ValueError("unsupported")

    monkeypatch.setattr(fast_tokenizer, "load", broken)
    assert same(PairTokenizer.from_file(file, 64).encode(MANY), library(file)(MANY))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_a_signal_is_no_difference(file: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake(file, _raises(error)))
    with pytest.raises(type(error)):
        PairTokenizer.from_file(file, 64).encode(MANY)


def test_several_threads_at_once(file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    use(monkeypatch, Fake(file, FAULTS["text beyond ASCII"]))
    tokenizer, expected = PairTokenizer.from_file(file, 64), library(file)(MANY)
    with ThreadPoolExecutor(4) as pool:
        assert all(same(found, expected) for found in pool.map(tokenizer.encode, [MANY] * 8))
    assert len(caplog.records) == 1


# What is compared ----------------------------------------------------------------------------------------


def test_the_sample_is_of_the_texts_and_the_same_every_time() -> None:
    plain, foreign = [f"sea {number}" for number in range(60_000)], [f"é {number}" for number in range(200)]
    encoded = Ragged.from_lists([[1] * (len(text) % 7) for text in plain + foreign])
    rows = sampled(plain + foreign, encoded)
    assert rows.tolist() == sampled(plain + foreign, encoded).tolist() == sorted(set(rows.tolist()))
    assert len(rows) > len(encoded) / 128
    assert (rows >= len(plain)).sum() >= len(foreign)
    other = sampled(plain[1:] + foreign, encoded.take(np.arange(1, len(encoded))))
    assert set(rows[rows < len(plain)]) != set(other[other < len(plain)])
    assert sampled(plain[:3], encoded.take(np.arange(3))).tolist() == [0, 1, 2]


def test_the_fixed_texts_hold_every_category_every_special_token_and_words_of_every_critical_length(file: Path) -> None:
    known = description(file)
    whole = probe_texts(known)
    assert whole == probe_texts(known)
    categories = {unicodedata.category(chr(point)) for point in range(0x110000)} - {"Cs"}
    assert {unicodedata.category(character) for text in whole for character in text} == categories
    for token in known["added_tokens"]:
        assert token["content"] in whole
        assert any(f"a{token['content']}b" in text for text in whole)
    assert {99, 100, 101} <= {len(text) for text in whole if set(text) == {"a"}}
    assert {"", " "} <= set(whole)
    assert sum(len(text.split()) for text in whole) > 5000
