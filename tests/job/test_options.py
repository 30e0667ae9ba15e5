"""Options are checked where they are built, whoever builds them, and messages write them as the caller does."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import pairscore
from pairscore.runtime.arguments import argument_types, in_python
from pairscore.runtime.command import score
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.options import JobOptions, ScoreOptions, shown_options
from tests.command_line import run
from tests.pairs_files import write_pairs

WRONG = [
    ({"limit": -5}, "--limit -5 is too small: use 0 or more"),
    ({"limit": 2.5}, "--limit 2.5 is not a whole number"),
    ({"limit": True}, "--limit True is not a whole number"),
    ({"part_rows": 0}, "--part-rows 0 is too small: use 1 or more"),
    ({"max_length": 0}, "--max-length 0 is too small"),
    ({"threads": 0}, "--threads 0 is too small"),
    ({"top_k": 0}, "--top-k 0 is too small"),
    ({"on_null": "nul"}, "--on-null 'nul' is unknown: use error, null"),
    ({"on_error": "skip"}, "--on-error 'skip' is unknown: use fail, skip-file"),
    ({"promise": "half"}, "--promise 'half' is unknown: use fp32, bf16, int8"),
    ({"compression": "lzma"}, "--compression 'lzma' is unknown"),
    ({"overwrite": "no"}, "--overwrite 'no' is not True or False"),
    ({"filter": 3}, "--filter 3 is not text"),
    ({"keep": [1]}, "--keep 1 is not text"),
    ({"shard": "3"}, "--shard '3' is not I/N: write, for example, 3/16"),
    ({"shard": (1, 2, 3)}, r"--shard \(1, 2, 3\) is not I/N"),
    ({"shard": (3, 2)}, "shard 3/2 does not exist: count from 1/2 to 2/2"),
    ({"shard": (1, 2), "output": "a.parquet"}, "--shard writes parts: give --output a folder"),
    ({"evidence_column": "claim"}, "claim and evidence are both column 'claim'"),
    ({"by": "id"}, "--by 'id' says whose best rows to keep: say how many with --top-k"),
    ({"top_k": 2, "score_column": "rank"}, "--score-column 'rank': the output would have two columns 'rank'"),
    ({"score_column": "claim"}, "--score-column 'claim': the output would have two columns 'claim'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(PairscoreError, match=f"^{message}"):
        JobOptions(**{"bundle": "b", "inputs": ("in",), "output": "out", **given})


def test_every_usual_form_is_taken():
    options = JobOptions(
        Path("b"), Path("in"), Path("out"), keep="id", shard="3/16", limit=np.int64(3), reuse=Path("x")
    )
    assert options == JobOptions("b", ("in",), "out", keep=("id",), shard=(3, 16), limit=3, reuse=("x",))
    assert type(options.limit) is int


def test_the_command_and_the_function_name_what_their_callers_wrote(capsys):
    code, _, said = run(capsys, "score", "b", "in", "-o", "out", "--limit", "-5")
    assert (code, said) == (2, "pairscore: error: --limit -5 is too small: use 0 or more\n")
    with pytest.raises(PairscoreError, match=r"^limit -5 is too small: use 0 or more$"):
        pairscore.score_files("b", "in", "out", limit=-5)


def test_so_do_the_functions_below_them(capsys, small_bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 3)
    given = (small_bundle(), tmp_path / "in.parquet")
    code, _, said = run(capsys, "score", *given, "-o", tmp_path / "out", "--engine", "native")
    assert (code, said.strip()[-24:]) == (2, "use --engine onnxruntime")
    with pytest.raises(PairscoreError, match=r"does not run on native: use engine onnxruntime$"):
        pairscore.score_files(*given, tmp_path / "out", engine="native")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("use --score-column NAME", "use score_column NAME"),
        ("leave it out with --on-error skip-file", "leave it out with on_error='skip-file'"),
        ("replace it with --overwrite, or --no-tuning", "replace it with overwrite=True, or tuning=False"),
        ("--filter 'id --limit 3' and this run's --limit", "filter 'id --limit 3' and this run's limit"),
        ("--reuse 'a' is this run's own output", "reuse 'a' is this run's own output"),
        ("--overwrite begins anew, and so does --top-k --by", "overwrite=True begins anew, and so does top_k by"),
        ("add it with `pairscore export S B --precision int8`", "add it with `pairscore export S B --precision int8`"),
    ],
)
def test_messages_are_worded_for_python(message, expected):
    assert in_python(message, argument_types(pairscore.score_files)) == expected


def test_an_option_is_the_same_everywhere():
    """The keywords of `score_files` are the fields of `JobOptions`, and the command has each with its default."""
    filled = {each.name: each.default for each in fields(JobOptions) if each.name in shown_options()}
    assert list(ScoreOptions.__annotations__) == list(filled)
    keywords, kinds = get_type_hints(ScoreOptions), get_type_hints(JobOptions)
    for name in filled:
        if name not in ("keep", "reuse"):  # any sequence there
            assert keywords[name] == kinds[name], name
    command = {each.name: each for each in score.params}
    for name, default in filled.items():
        given = command[name].default
        assert given == default or (name == "keep" and given == ()), name
        assert f"`{name}`: " in inspect.getdoc(pairscore.score_files)
    assert set(command) - set(filled) == {
        "bundle", "revision", "inputs", "output", "dry_run", "as_json", "quiet", "log_json"
    }  # fmt: skip
