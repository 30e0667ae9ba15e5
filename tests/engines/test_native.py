"""The native engine, from an export to scores: the same bytes everywhere, and one line for whatever is wrong."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.export.api import export_bundle
from pairscore.export.errors import ParityError
from pairscore.runtime.bundle.manifest import Bundle, sha256
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import open_engine
from pairscore.runtime.tuning import compare_settings
from tests.command_line import run
from tests.native import FILES, LOOSE, PAIRS, add_native, changes

kernels = pytest.importorskip("pairscore_kernels", reason="pairscore-kernels is not installed: pip install ./kernels")


@pytest.fixture(scope="module")
def native(exported, built_once):
    """A bundle with an int8 variant of the native engine; do not write into it."""
    checkpoint, bundle = exported("bert", **changes("bert"))
    folder = built_once("native", lambda to: add_native(checkpoint, shutil.copytree(bundle, to / "bundle")))
    return folder / "bundle"


@pytest.fixture
def copy(native, tmp_path):
    return shutil.copytree(native, tmp_path / "bundle")


def changed_manifest(bundle, change):
    """Rewrite the manifest, every file's digest included."""
    raw = json.loads((bundle / "pairscore.json").read_text())
    change(raw["variants"]["int8"])
    raw["files"] = {name: sha256(bundle / name) for name in raw["files"]}
    (bundle / "pairscore.json").write_text(json.dumps(raw))


def opened(bundle):
    return Scorer.from_pretrained(bundle, precision="int8")


# The export --------------------------------------------------------------------------------------------


# Of a model with 32 and 64 channels.
RECIPE = "whole rows, rotated by Hadamard matrices of order 2 and 4, SmoothQuant 0.5"


def test_the_variant_says_what_it_is(native):
    variant = Bundle.open(native).variant("int8")
    assert (variant.engines, variant.files) == (("native",), FILES)
    assert variant.settings == {}
    assert any(f"12 matrix products, rows and weights in {RECIPE}," in note for note in variant.notes)
    assert any(note.startswith(f"chosen: {RECIPE} on native") for note in variant.notes)
    assert any(note.startswith(f"tried: {RECIPE} on native: ") for note in variant.notes)
    assert variant.parity.batch_difference == 0
    assert len(variant.golden_logits) == len(Bundle.open(native).golden_rows().claims)
    assert json.loads((native / FILES[0]).read_text())["format"] == kernels.PLAN_FORMAT


def test_scores_are_near_fp32(native):
    ours, exact = opened(native).predict(PAIRS), Scorer.from_pretrained(native).predict(PAIRS)
    assert 0 < np.abs(ours - exact).max() <= 0.05


@pytest.mark.parametrize(
    ("family", "products"),
    [pytest.param("modernbert", 28, marks=pytest.mark.every_combination), ("ettin", 28), ("deberta-v2", 12)],
)
def test_another_family_becomes_a_variant(exported, tmp_path, family, products):
    """ModernBERT with its own head on the mean of all tokens, and as a stack of modules on the first; DeBERTa."""
    checkpoint, bundle = exported(family, **changes(family))
    made = shutil.copytree(bundle, tmp_path / "bundle")
    add_native(checkpoint, made)
    variant = Bundle.open(made).variant("int8")
    assert variant.engines == ("native",)
    assert any(f"{products} matrix products" in note for note in variant.notes)
    assert variant.parity.batch_difference == 0
    ours, exact = opened(made).predict(PAIRS), Scorer.from_pretrained(made).predict(PAIRS)
    # Random weights magnify a rounding in a pair or two.
    assert 0 < np.abs(ours - exact).max() <= 0.15


def test_native_races_with_the_others(capsys, exported, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    checkpoint, bundle = exported("bert", **changes("bert"))
    made = shutil.copytree(bundle, tmp_path / "bundle")
    claims, evidence = map(list, zip(*PAIRS, strict=True))
    pq.write_table(pa.table({"claim": claims, "evidence": evidence}), tmp_path / "pairs.parquet")
    given = ["--precision", "int8", "--calibration", tmp_path / "pairs.parquet", "--min-spearman", 0.9]
    code, _, errors = run(capsys, "export", checkpoint, made, *given)
    assert code == 0
    for tried in (
        f"{RECIPE} on native: ",
        "groups of 32 on onnxruntime: ",
        "groups of 64 on openvino: ",
    ):
        assert tried in errors
    kept = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert kept == {*Bundle.open(made).manifest.files, "pairscore.json"}


def test_without_the_kernels_the_others_race(exported, monkeypatch, tmp_path):
    checkpoint, bundle = exported("bert", **changes("bert"))
    made = shutil.copytree(bundle, tmp_path / "bundle")
    monkeypatch.setitem(sys.modules, "pairscore_kernels", None)
    said = []
    calibration = PAIRS
    export_bundle(str(checkpoint), made, precision="int8", calibration=calibration, say=said.append, **LOOSE)
    left_out = "native left out: pairscore-kernels is not installed: `pip install pairscore[kernels]`"
    assert f"  {left_out}" in said
    variant = Bundle.open(made).variant("int8")
    assert left_out in variant.notes
    assert variant.engines[0] in ("onnxruntime", "openvino")


@pytest.mark.parametrize(
    ("family", "engine", "message"),
    [
        ("bert", "nowhere", "int8 is not made for the engine 'nowhere': use auto, native, openvino, onnxruntime"),
        ("deberta-v2", "native", "native left out: its first layer has a convolution"),
    ],
)
def test_an_engine_without_a_candidate_is_refused(exported, tmp_path, family, engine, message):
    checkpoint, bundle = exported(family, **({"conv_kernel_size": 3} if family == "deberta-v2" else {}))
    made = shutil.copytree(bundle, tmp_path / "bundle")
    with pytest.raises(PairscoreError, match=message):
        export_bundle(str(checkpoint), made, precision="int8", calibration=PAIRS, engine=engine, **LOOSE)
    assert "int8" not in Bundle.open(made).manifest.variants


def test_a_promise_that_it_does_not_keep_leaves_the_bundle_as_it_was(exported, tmp_path):
    checkpoint, bundle = exported("bert", **changes("bert"))
    made = shutil.copytree(bundle, tmp_path / "bundle")
    with pytest.raises(ParityError, match="the most exact is whole rows"):
        export_bundle(
            str(checkpoint),
            made,
            precision="int8",
            calibration=PAIRS,
            engine="native",
            max_difference=1e-9,
        )
    assert not (made / "native").exists()


# The same bytes ----------------------------------------------------------------------------------------


def test_the_same_bytes_alone_and_in_a_batch_on_one_thread_and_on_many(native):
    together = opened(native).predict(PAIRS, activation="identity")
    one = Scorer.from_pretrained(native, precision="int8", threads=1)
    many = Scorer.from_pretrained(native, precision="int8", options=EngineOptions(threads=7, token_budget=64))
    assert (one.engine.callers, many.engine.callers) == (1, 7)
    for scorer in (one, many):
        np.testing.assert_array_equal(scorer.predict(PAIRS, activation="identity"), together)
    alone = [one.predict(pair, activation="identity") for pair in PAIRS]
    np.testing.assert_array_equal(np.array(alone), together)


@pytest.mark.parametrize("isa", kernels.available())
def test_the_same_bytes_on_every_instruction_set(native, monkeypatch, isa):
    expected = opened(native).predict(PAIRS, activation="identity")
    monkeypatch.setenv("PAIRSCORE_ISA", isa)
    scorer = opened(native)
    assert scorer.engine._engine.isa == isa
    np.testing.assert_array_equal(scorer.predict(PAIRS, activation="identity"), expected)


def test_many_threads_call_one_engine_at_once(native):
    engine = opened(native).engine
    tokenized = opened(native).tokenize(PAIRS)
    batches = [tokenized.batch(np.array([row])) for row in range(len(tokenized))]
    expected = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            np.testing.assert_array_equal(list(threads.map(engine.run, batches)), expected)


def test_golden_rows_are_compared_to_the_last_bit(copy):
    opened(copy)

    def flip(variant):
        first = np.float32(variant["golden_logits"][3][0])
        variant["golden_logits"][3][0] = float(np.nextafter(first, np.float32(9)))

    changed_manifest(copy, flip)
    with pytest.raises(PairscoreError, match="gives other bytes for its golden rows with native") as caught:
        opened(copy)
    assert "\n" not in str(caught.value)


# What is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("isa", "message"),
    [
        ("sse9", "PAIRSCORE_ISA is 'sse9', which is no instruction set: use amx, avx512vnni, "),
        (
            next((each for each in kernels.ISAS if each not in kernels.available()), ""),
            "does not run: use portable|run: use ",
        ),
    ],
)
def test_an_instruction_set_that_cannot_run_is_one_line(native, monkeypatch, isa, message):
    if not isa:
        pytest.skip("this processor runs every instruction set of the kernels")
    monkeypatch.setenv("PAIRSCORE_ISA", isa)
    with pytest.raises(PairscoreError, match=message) as caught:
        opened(native)
    assert "\n" not in str(caught.value)


def test_missing_kernels_are_named(native, monkeypatch):
    monkeypatch.setitem(sys.modules, "pairscore_kernels", None)
    with pytest.raises(PairscoreError, match=r"needs pairscore-kernels, .*: `pip install pairscore.kernels.`"):
        opened(native)


def test_missing_safetensors_is_named(native, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(PairscoreError, match=r"needs safetensors, .*: `pip install pairscore.kernels.`"):
        opened(native)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (FILES[0], lambda text: b"{", "cannot be read"),
        (FILES[0], lambda text: b"[]", "says no format: export the variant again"),
        (
            FILES[0],
            lambda text: text.replace(b'"format": 2', b'"format": 3'),
            "`pip install --upgrade pairscore-kernels`",
        ),
        (
            FILES[0],
            lambda text: text.replace(b'"format": 2', b'"format": 1'),
            "reads format 2: export the variant again",
        ),
        (FILES[0], lambda text: text.replace(b'"heads": 2', b'"heads": 3'), "are no int8 model .*heads"),
        (
            FILES[0],
            lambda text: text.replace(b'"layers": 2', b'"layers": 3'),
            "tensor layers.2.query.weight is missing",
        ),
        (FILES[1], lambda weights: weights[:1000], "weights .* cannot be read"),
        (FILES[1], lambda weights: b"", "weights .* cannot be read"),
        (FILES[1], lambda weights: b"\xff" * len(weights), "weights .* cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line(copy, name, damage, message):
    """Past the digests, as a file that was damaged before its bundle was written."""
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    with pytest.raises(PairscoreError, match="has changed since its export"):
        opened(copy)
    changed_manifest(copy, lambda variant: None)
    with pytest.raises(PairscoreError, match=message) as caught:
        opened(copy)
    assert "\n" not in str(caught.value)


def test_weights_that_only_differ_in_a_bit_are_seen(copy):
    weights = bytearray((copy / FILES[1]).read_bytes())
    weights[-1] ^= 1  # of the last tensor, an int8 weight or a low bit of a float
    weights[len(weights) // 2] ^= 64
    (copy / FILES[1]).write_bytes(weights)
    changed_manifest(copy, lambda variant: None)
    with pytest.raises(PairscoreError, match=r"golden rows|are no int8 model"):
        opened(copy)


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [("int8", "cuda", "the native engine serves the CPU, not device 'cuda'"), ("fp32", "cpu", "does not run fp32")],
)
def test_what_it_cannot_serve_is_refused(native, precision, device, message):
    with pytest.raises(PairscoreError, match=message):
        open_engine("native", native / FILES[0], precision, device, ("native",))


# The commands ------------------------------------------------------------------------------------------


def test_info_names_the_engine_and_its_instruction_set(capsys, native, monkeypatch):
    monkeypatch.setenv("PAIRSCORE_ISA", "portable")
    code, out, _ = run(capsys, "info", native)
    assert code == 0
    assert "for native" in out
    assert "native      runs here, on portable" in out


def test_scoring_needs_no_pytorch_and_no_graph(native, tmp_path):
    """The bundle without its ONNX graphs: the engine reads its own two files."""
    made = shutil.copytree(native, tmp_path / "bundle")
    shutil.rmtree(made / "onnx")
    code = (
        "import sys; from pairscore import Scorer; "
        f"s = Scorer.from_pretrained({str(made)!r}, precision='int8'); print(s.predict(('a', 'b'))); "
        "assert not {'torch', 'onnx', 'onnxruntime', 'transformers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_tune_tries_one_core_a_batch_alone(native):
    """The engine computes a batch on the thread that calls it: more cores a batch would leave cores idle."""
    found = compare_settings(native, "int8", PAIRS, seconds=0.5)
    assert found.default.engine == "native"
    assert {result.setting.threads_per_batch for result in found.results} == {1}
