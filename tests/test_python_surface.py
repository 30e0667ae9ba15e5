"""What `pairscore` offers to Python: all that the command has, without PyTorch until it is needed."""

import inspect
import json
import pickle
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import pairscore
from pairscore import PairscoreError, Scorer, calibrate, describe, export_bundle, score_files, survey, tune, verify
from pairscore.cli import COMMANDS
from pairscore.runtime.arguments import argument_types, in_python
from tests import corpus
from tests.pairs_files import write_pairs

# Command -> the public function that does the same.
FUNCTIONS = {
    "calibrate": calibrate,
    "export": export_bundle,
    "verify": verify,
    "tune": tune,
    "info": describe,
    "show": survey,
}
# What a command prints or where it writes is the caller's business in Python.
OF_THE_COMMAND = {"json", "quiet", "html"}


def test_every_name_is_imported_without_torch_and_without_an_engine():
    names = ", ".join(name for name in pairscore.__all__ if name != "__version__")
    heavy = ["torch", "transformers", "onnx", "onnxruntime", "openvino", "sentence_transformers"]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({heavy!r}))\n"  # Python's own way to make an import fail
        "import pairscore\n"
        "assert 'numpy' not in sys.modules\n"
        f"from pairscore import {names}\n"
        "assert set(pairscore.__all__) <= set(dir(pairscore))\n"
        "try: export_bundle('x', 'y')\n"
        "except PairscoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'pip install "pairscore[export,cpu]"' in done.stdout


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="module 'pairscore' has no attribute 'scorer_files'"):
        pairscore.scorer_files  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_its_command_takes(name):
    module, _ = COMMANDS[name]
    command = getattr(__import__(module, fromlist=[name]), name)
    arguments = set(argument_types(FUNCTIONS[name]))
    for option in command.params:
        flag = max(option.opts, key=len).lstrip("-").replace("-", "_")
        assert flag in OF_THE_COMMAND or {flag, option.name} & arguments, f"{name} in Python has no {flag}"


@pytest.mark.parametrize("name", pairscore.__all__)
def test_every_public_name_says_what_it_is(name):
    found = getattr(pairscore, name)
    assert name == "__version__" or inspect.getdoc(found)
    if inspect.isfunction(found):
        assert pickle.loads(pickle.dumps(found)) is found


def test_from_export_to_survey_with_text_and_paths(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRSCORE_CACHE", str(tmp_path / "cache"))
    pairs, steps = tmp_path / "pairs.parquet", []
    write_pairs(pairs, 40)
    manifest = export_bundle(str(checkpoint("bert")), str(tmp_path / "bundle"), pairs=str(pairs), say=steps.append)
    assert steps
    assert manifest.variants.keys() == {"fp32"}
    assert verify(str(tmp_path / "bundle"), checkpoint("bert"), pairs, limit=10).broken == ()
    own = [(claim, text) for claim in corpus.SENTENCES[:2] for text in corpus.SENTENCES[2:5]]
    assert verify(tmp_path / "bundle", str(checkpoint("bert")), own).report.pairs == 6
    assert tune(tmp_path / "bundle", pairs=own, seconds=0.2).default.engine == "onnxruntime"
    assert json.dumps(describe(tmp_path / "bundle"))
    summary = score_files(tmp_path / "bundle", pairs, tmp_path / "scored.parquet")
    assert (summary.rows, summary.pairs + summary.reused + summary.nulls) == (40, 40)
    assert summary.pairs_per_second > 0
    assert (summary.seconds > 0, summary.tokens > 0) == (True, True)
    assert survey(tmp_path / "scored.parquet", claims=1).rows == pq.read_metadata(tmp_path / "scored.parquet").num_rows


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda bundle: export_bundle("s", "b", precison="int8"), "no argument 'precison': did you mean precision"),
        (lambda bundle: export_bundle("s", "b", precision="int8"), "give a Parquet file of them with calibration"),
        (lambda bundle: export_bundle("s", "b", label_column="x"), "label_column names a column of calibration:"),
        (lambda bundle: export_bundle("s", "b", pairs=[("one",)]), "pairs 0 is ('one',): a pair is"),
        (lambda bundle: export_bundle("s", bundle), "overwrite=True"),
        (lambda bundle: verify(bundle, "r", "none.parquet"), "give a Parquet file of pairs with pairs"),
        (lambda bundle: tune(bundle, second=2), "tune has no argument 'second': did you mean seconds"),
        (lambda bundle: survey("none.parquet"), "none.parquet"),
        (lambda bundle: score_files(bundle, "i", "o", top=5), "no argument 'top': did you mean top_k"),
        (lambda bundle: Scorer.from_pretrained(bundle, devise="cpu"), "no argument 'devise': did you mean device"),
        (
            lambda bundle: verify(bundle, "r"),
            "verify: missing a required argument: 'pairs'; it takes bundle, reference",
        ),
        (lambda bundle: verify(bundle, "r", [("a", "b")], limit=0), "limit is 0: give 1 or more"),
        (lambda bundle: verify(bundle, "r", []), "pairs is empty: give one pair or more"),
        (lambda bundle: export_bundle(3, "b"), "source is 3: give text or a path"),
        (lambda bundle: export_bundle("s", "b", max_length="5"), "max_length is '5': give a whole number or None"),
        (lambda bundle: export_bundle("s", "b", pair_order="x"), "give 'claim-evidence' or 'evidence-claim' or None"),
        (lambda bundle: export_bundle("s", "b", say="x"), "say is 'x': give a function"),
        (lambda bundle: tune(bundle, pairs=7), "pairs is 7: give text or a path or a list"),
        (lambda bundle: tune(bundle, threads=True), "threads is True: give a whole number or None"),
        (lambda bundle: describe(7), "bundle is 7: give text or a path"),
        (lambda bundle: survey("o", claims=0), "claims is 0: give 1 or more"),
        (lambda bundle: calibrate(bundle, [("a", "b")], "yes"), "labels is 'yes': give a list or None"),
        (lambda bundle: score_files(bundle, 3, "o"), "inputs is 3: give text or a path or a list"),
        (lambda bundle: score_files(bundle, "i", "o", overwrite="y"), "overwrite is 'y': give True or False"),
        (lambda bundle: Scorer.from_pretrained(bundle, tuning="y"), "give True or False or TunedSetting"),
        (lambda bundle: Scorer.from_pretrained(bundle).rank("q", "doc"), "documents is 'doc': give a list"),
        (lambda bundle: Scorer.from_pretrained(bundle).rank("q", ["d"], -1), "top_k is -1: give 0 or more"),
        (lambda bundle: Scorer.from_pretrained(bundle).predict([("a", "b")], overlap=5), "give long_evidence='split'"),
    ],
)
def test_errors_name_pythons_arguments(exported, call, said):
    with pytest.raises(PairscoreError) as raised:
        call(exported("bert").bundle)
    assert said in str(raised.value)
    assert "--" not in str(raised.value)


def test_what_a_message_quotes_stays_as_it_is():
    kinds = argument_types(export_bundle)
    assert in_python("use --max-length 5, not '--max-length'", kinds) == "use max_length 5, not '--max-length'"
    assert in_python("`pairscore` exists: add --overwrite", kinds) == "`pairscore` exists: add overwrite=True"
