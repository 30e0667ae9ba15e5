"""Run one step of `make bench` and note how long it took; without a command, print the steps.

    python benchmarks/steps.py STEPS.json NAME COMMAND...
    python benchmarks/steps.py STEPS.json

Runs before anything is installed, so it imports nothing but Python's own library.
"""

import json
import subprocess
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    """The exit code of the command; 0 without one."""
    path = Path(arguments[0])
    if len(arguments) == 1:
        print(told(steps(path)))
        return 0
    name, command = arguments[1], arguments[2:]
    started = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    step = {"name": name, "seconds": round(time.monotonic() - started, 1), "exit_code": code}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*steps(path), step], indent=2) + "\n")
    return code


def steps(path: Path) -> list[dict[str, object]]:
    """Those that were run so far."""
    found: list[dict[str, object]] = json.loads(path.read_text()) if path.is_file() else []
    return found


def told(found: list[dict[str, object]]) -> str:
    """One line a step, and their sum."""
    seconds = [float(str(each["seconds"])) for each in found]
    lines = [f"{value:8.1f} s  {each['name']}" for each, value in zip(found, seconds, strict=True)]
    return "\n".join([*lines, f"{sum(seconds):8.1f} s  in all"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
