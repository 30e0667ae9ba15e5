"""Break the product in one place after another: for each fault some test of `make test` must fail.

    python -m tests.robustness.mutations
    python -m tests.robustness.mutations --only ranking

Each fault is made in a copy of the tracked files, and only the tests that should see it run, first without the fault.
Kernels are built anew with theirs, so that is the slowest part.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fault:
    """`right` in `file` becomes `wrong`, and `tests`, arguments of pytest, must fail."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "the rewrite takes another row than the first",
        "export/graphs/rewrites.py",
        "for each in (0, 1, axis)]",
        "for each in (1, 2, axis)]",
        ("tests/export/test_rewrites.py", "-k", "optimum-bert or torch-bert"),
    ),
    Fault(
        "the bias of the values is lost in the unpadded graph",
        "export/graphs/writer.py",
        "np.add(layer.output.bias, layer.output.weight @ layer.value.bias, dtype=np.float32)",
        "layer.output.bias",
        ("tests/export/test_unpadded.py", "-k", "logits_are and electra"),
    ),
    Fault(
        "golden rows without a truncated pair",
        "export/build.py",
        "    ][:1]\n",
        "    ][:0]\n",
        ("tests/export/test_bundle_export.py", "-k", "golden_rows_are_few"),
    ),
    Fault(
        "the gate takes a candidate that breaks its promise",
        "export/parity/gate.py",
        "if not trial.broken]",
        "if trial.variant]",
        ("tests/export/test_int8_graphs.py", "-k", "taken or named"),
    ),
    Fault(
        "GPTQ does not correct the weights behind a rounded one",
        "export/quantization/gptq.py",
        "        left[stop:] -= factor[start:stop, stop:].T @ errors\n",
        "",
        ("tests/export/test_gptq.py",),
    ),
    Fault(
        "parity compares the mean and not the worst",
        "runtime/bundle/parity.py",
        "max_score_difference=float(score_difference.max(initial=0.0))",
        "max_score_difference=float(score_difference.mean())",
        ("tests/bundle/test_parity.py",),
    ),
    Fault(
        "an engine gets token types of the claim alone",
        "runtime/engines/batch.py",
        "                return self.token_type_ids\n",
        "                return np.zeros_like(self.token_type_ids)\n",
        ("tests/test_fixtures.py",),
    ),
    Fault(
        "a batch that does not fit loses its second half",
        "runtime/engines/out_of_memory.py",
        "slice(middle, None)",
        "slice(0, len(batch.rows) - middle)",
        ("tests/job/test_faults.py", "-k", "do_not_fit"),
    ),
    Fault(
        "golden rows are replayed and not compared",
        "runtime/stream/golden_replay.py",
        "    if broken:\n",
        "    if broken and not golden.claims:\n",
        ("tests/engines/test_registry.py", "-k", "golden"),
    ),
    Fault(
        "the odd token of a truncated pair goes to the shorter text",
        "runtime/text/tokenizer.py",
        "swapped = first > second",
        "swapped = first < second",
        ("tests/text/test_tokenizer.py", "-k", "assembled or truncat"),
    ),
    Fault(
        "a part that a killed run damaged passes for whole",
        "runtime/storage/sealing.py",
        "    return rest.digest() == data[seal:footer]\n",
        "    return len(rest.digest()) == footer - seal\n",
        ("tests/storage/test_parts.py",),
    ),
    Fault(
        "shards leave out the block between them",
        "runtime/job/blocks.py",
        "count * shard // shards])",
        "(count - 1) * shard // shards])",
        ("tests/job/test_blocks.py",),
    ),
    Fault(
        "ranking prefers the row that comes last among equal scores",
        "runtime/spill/ranking.py",
        "np.lexsort((-scores, *reversed(groups)))",
        "np.lexsort((-np.arange(len(scores)), -scores, *reversed(groups)))",
        ("tests/spill/test_ranking.py",),
    ),
    Fault(
        "reused scores are looked up by hash alone",
        "runtime/spill/old_scores.py",
        "(my_keys[places] == keys[rows]).all(axis=1)",
        "(my_keys[places] == keys[rows]).any(axis=1) | True",
        ("tests/spill/test_old_scores.py",),
    ),
    Fault(
        "two runs write to one output",
        "runtime/job/output/locks.py",
        "        lock.acquire()\n",
        "        lock.release()\n",
        ("tests/job/test_faults.py", "-k", "second_run or side_by_side"),
    ),
    Fault(
        "the kernels round rows to 7 bits",
        "kernels/cpp/quantize.h",
        "float scale = (largest(high) - lowest) / 255.0f;",
        "float scale = (largest(high) - lowest) / 127.0f;",
        ("tests/kernels/test_operations.py", "-k", "quantized_rows or by_hand"),
    ),
    Fault(
        "GELU of the kernels is off by a percent",
        "kernels/cpp/functions.h",
        "  return max(x, splat(0.0f)) - p;\n",
        "  return max(x, splat(0.0f)) - p * splat(0.99f);\n",
        ("tests/kernels/test_operations.py", "-k", "activations_are_exact"),
    ),
)


def applied(fault: Fault, root: Path) -> str:
    """The text of the fault's file below `root`, with the fault. Raises ValueError where it no longer applies."""
    text = (root / fault.file).read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        raise ValueError(
            f"{fault.file} holds {text.count(fault.right)} times what {fault.name!r} changes: {fault.right}"
        )
    return text.replace(fault.right, fault.wrong)


def main() -> int:
    """Print a line a fault; 1 where one of them was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose name or file holds this text")
    only = parser.parse_args().only
    chosen = [fault for fault in FAULTS if only in fault.name or only in fault.file]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="pairscore-mutations-") as scratch:
        copy = Path(scratch)
        for path in _tracked():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy / path, follow_symlinks=False)
        for fault in chosen:
            wrong, path = applied(fault, copy), copy / fault.file
            right = path.read_text(encoding="utf-8")
            started = time.monotonic()
            without = _outcome(copy, fault.tests)
            path.write_text(wrong, encoding="utf-8")
            found = _outcome(copy, fault.tests, build=fault.file.startswith("kernels/"))
            path.write_text(right, encoding="utf-8")
            verdict = {(0, 1): "caught", (0, 0): "MISSED"}.get((without, found), f"BROKEN ({without}, {found})")
            missed += verdict != "caught"
            print(f"{verdict}  {fault.file}: {fault.name} ({time.monotonic() - started:.0f} s)", flush=True)
    return int(missed > 0)


def _tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return (Path(name) for name in listed.split("\0") if name and (ROOT / name).exists())


def _outcome(copy: Path, tests: Sequence[str], *, build: bool = False) -> int:
    """How pytest ends: 0 where all tests pass, 1 where one fails. build: with the kernels of the copy."""
    paths = [copy / "src"]
    if build:
        paths.append(copy / "out")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--upgrade",
            "--target",
            "out",
            "./kernels",
        ]
        subprocess.run(pip, cwd=copy, check=True)
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(pytest, cwd=copy, env=environment, check=False, stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
