"""Whether two results of `pairscore bench` say the same: the largest disagreement between their ratios.

    python -m pairscore.benchmarks.agreement A.json B.json [--within 0.10]

Exit code 1 when a system's ratios to the reference differ by more, or a system ran in one of them only.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WITHIN = 0.10


@dataclass(frozen=True)
class Comparison:
    """`first`, `second`: a system's ratio to the reference in each result; None where it did not run."""

    name: str
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """How much the larger ratio exceeds the smaller one: 0.1 for 1.0 and 1.1, whichever is first."""
        if self.first is None or self.second is None:
            return None
        return max(self.first, self.second) / min(self.first, self.second) - 1

    def agrees(self, within: float) -> bool:
        """Whether the ratios are as close, or neither result has one."""
        if self.difference is None:
            return self.first is self.second
        return self.difference <= within


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Comparison]:
    """Every system of either result, in the order of the first. Raises ValueError when they cannot be compared."""
    for key in ("checkpoint", "reference"):
        if first[key] != second[key]:
            raise ValueError(f"the results have different values of {key}: {first[key]!r} and {second[key]!r}")
    for key in ("sha256", "pairs"):
        if first["data"][key] != second["data"][key]:
            raise ValueError(f"the results are of different pairs: {first['data'][key]!r} and {second['data'][key]!r}")
    ratios = [_ratios(result) for result in (first, second)]
    names = dict.fromkeys([*ratios[0], *ratios[1]])
    return [Comparison(name, ratios[0].get(name), ratios[1].get(name)) for name in names if name != first["reference"]]


def _ratios(result: Mapping[str, Any]) -> dict[str, float | None]:
    """System -> its rate divided by the reference's; None where it did not run."""
    rates = {each["name"]: each.get("pairs_per_second") for each in result["systems"]}
    theirs = rates[result["reference"]]
    return {name: None if rate is None else rate / theirs for name, rate in rates.items()}


def main() -> None:
    """Print a line a system and exit with 1 when one disagrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path, nargs=2, help="two files that `pairscore bench` wrote")
    parser.add_argument("--within", type=float, default=WITHIN, help="largest difference between two ratios")
    options = parser.parse_args()
    try:
        compared = compare(*(json.loads(path.read_text()) for path in options.results))
    except ValueError as error:
        parser.error(str(error))
    for each in compared:
        ratios = " ".join(
            "did not run".rjust(12) if ratio is None else f"{ratio:12.3f}" for ratio in (each.first, each.second)
        )
        difference = "" if each.difference is None else f"{each.difference:8.1%}"
        print(f"{ratios} {difference:8}  {each.name}{'' if each.agrees(options.within) else '  DISAGREES'}")
    worst = max((each.difference for each in compared if each.difference is not None), default=0.0)
    print(f"The largest difference is {worst:.1%}; {options.within:.0%} is allowed.")
    if not all(each.agrees(options.within) for each in compared):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
