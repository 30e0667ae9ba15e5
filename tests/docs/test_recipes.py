"""The recipes of docs/daily-jobs.md, run as they stand, one after the other in one folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pairs_files import pairs_table, read_output

PAGE = Path(__file__).parents[2] / "docs" / "daily-jobs.md"


def blocks():
    """(language, code) of every block of the page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_recipe_runs(exported, working_folder):
    Path("bundle").symlink_to(exported("bert").bundle)
    yesterday = pairs_table(60, 1).append_column("topic", pa.array(["sea level"] * 60))
    claims = yesterday["claim"].to_pylist()
    yesterday = yesterday.set_column(1, "claim", pa.array([f"{claim} (sea level)" for claim in claims]))
    added = pairs_table(10, 2).append_column("topic", pa.array(["ice"] * 10))
    for day, table in (("2026-11-25", yesterday), ("2026-11-26", pa.concat_tables([yesterday, added]))):
        Path("pairs", day).mkdir(parents=True)
        pq.write_table(table, Path("pairs", day, "0.parquet"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PAUSE": "0",
    }
    run = []
    for language, code in blocks():
        command = ["sh", "-e", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        # Arrow may abort a process that read through `datasets` at its very end (huggingface/datasets issue 7566).
        aborted = "datasets" in code and done.stderr.endswith("terminate called without an active exception\n")
        assert done.returncode == 0 or aborted, f"{code}\n{done.stderr}"
        run.append(language)
    assert (run.count("sh"), run.count("python")) == (4, 4)

    summary = json.loads(Path("summary.json").read_text())
    new = summary["pairs"]
    assert (summary["reused"] + new, new <= 10) == (70, True)
    best = pq.read_table("best.parquet")
    assert set(best["rank"].to_pylist()) == {1, 2, 3, 4, 5}
    assert best.num_rows < 70
    scored = read_output(Path("scored/2026-11-26"))
    for name in ("frame.scored.parquet", "dataset.scored.parquet"):
        assert pq.read_table(name)["score"].to_pylist() == scored["score"].to_pylist()
    assert "<svg" in Path("evidence.html").read_text()


def test_the_script_repeats_what_failed_and_reports_its_exit_code(exported, working_folder):
    """Nothing to score: three attempts, then exit code 2; once the pairs are there, 0; and 0 again."""
    Path("bundle").symlink_to(exported("bert").bundle)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "PAUSE": "0"}
    code = blocks()[0][1].replace("./score-day.sh 2026-11-25", "")
    subprocess.run(["sh", "-e", "-c", code], env=environment, check=True)
    failed = subprocess.run(
        ["./score-day.sh", "2026-11-25"], env=environment, capture_output=True, text=True, check=False
    )
    assert (failed.returncode, failed.stderr.count("no input 'pairs/2026-11-25'")) == (2, 1)
    Path("pairs/2026-11-25").mkdir(parents=True)
    pq.write_table(pairs_table(20), "pairs/2026-11-25/0.parquet")
    for _ in range(2):
        assert subprocess.run(["./score-day.sh", "2026-11-25"], env=environment, check=False).returncode == 0
    assert json.loads(Path("log/2026-11-25.json").read_text().splitlines()[-1])["nothing_to_do"] is True
