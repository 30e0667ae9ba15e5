"""What was measured stands in the tables that are drawn from committed results, and nowhere else.

A page, docstring or comment may name a setting, such as a pause of 60 seconds; then the number stands in the code too.
Any other price, duration, size, percentage or speed is a measurement that no command repeats.
"""

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The model card is written by `pairscore train`; the change log says what was true of a release.
PAGES = sorted(
    path for folder in (".", "docs", "benchmarks", "kernels") for path in (ROOT / folder).glob("*.md")
    if path.name != "CHANGELOG.md"
)  # fmt: skip
CODE = ("src/pairscore/__init__.py", "src/pairscore/cli.py", "runtime", "export", "training", "benchmarks", "studies")
MODULES = sorted(
    path for name in (*CODE, "kernels")
    for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*"))
    if path.suffix in (".py", ".h", ".cpp")
)  # fmt: skip

UNIT = r"%|per ?cent\b|pairs/s\b|tokens/s\b|[GT]FLOP/s\b|µs\b|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|[kKMGT]i?B\b"
FIGURE = re.compile(rf"\$ ?(?P<price>\d[\d.,]*)|(?<![\w.,])(?P<number>\d[\d.,]*)[ -]?(?:{UNIT})")
# "thirty times as fast", "a sixth faster", "5 % slower".
SPEED = re.compile(
    r"\b(?P<factor>[\w.]+)(?: %| times| per ?cent)? (?:as (?:fast|slow)|faster|slower)\b"
    r"|\ba (?:half|third|quarter|fifth|sixth|tenth) (?:faster|slower)\b"
)
NUMBER_WORD = re.compile("twice|thrice|half|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|hundred")


def numbers_in(texts: list[str]) -> set[float]:
    """Every number of some Python or C++ code, and what a factor and a share say in per cent."""
    found = {float(each) for text in texts for each in re.findall(r"(?<![\w.])\d+\.?\d*", text.replace("_", ""))}
    return found | {round(each * 100, 6) for each in found} | {round((each - 1) * 100, 6) for each in found}


@cache
def settings() -> set[float]:
    return numbers_in([without_words(path) for path in MODULES])


def without_words(path: Path) -> str:
    """Code without comments, docstrings and other texts of more than a few words."""
    text = path.read_text()
    if path.suffix != ".py":
        return re.sub(r"//.*", "", text)
    kept = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            kept.append(token.string)
    return " ".join(kept)


def words_of(path: Path) -> str:
    """The docstrings and comments of a module."""
    text = path.read_text()
    if path.suffix != ".py":
        return "\n".join(re.findall(r"//(.*)", text))
    comments = [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)
                if token.type == tokenize.COMMENT]  # fmt: skip
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return "\n".join([*comments, *documented])


def prose_of(page: str) -> str:
    """A page without what commands write into it, code and addresses."""
    page = re.sub(r"<!-- ([\w-]+):begin -->.*?<!-- \1:end -->", "", page, flags=re.DOTALL)
    page = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", page)


def claims(text: str) -> list[str]:
    """What reads like a measurement and is no setting of the code."""
    text = re.sub(r'"[^"]*"', "", " ".join(text.split()))
    found = [
        each.group()
        for each in SPEED.finditer(text)
        if each["factor"] is None
        or NUMBER_WORD.fullmatch(each["factor"])
        or (re.fullmatch(r"\d+\.?\d*", each["factor"]) and float(each["factor"]) not in settings())
    ]
    for each in FIGURE.finditer(text):
        number = (each["price"] or each["number"]).rstrip(".,").replace(",", "")
        if float(number) not in settings():
            found.append(text[max(0, each.start() - 40) : each.end() + 20])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_claims_a_figure_that_no_command_writes(page: Path) -> None:
    assert claims(prose_of(page.read_text())) == []


def test_no_docstring_or_comment_claims_a_measurement() -> None:
    found = {str(path.relative_to(ROOT)): said for path in MODULES if (said := claims(words_of(path)))}
    assert found == {}


def test_claims_are_seen_and_settings_are_not() -> None:
    fabricated = "It costs $259.|took 97.31 seconds|thirty times as fast|a sixth faster|37 % slower|needs 317 MiB"
    for text in fabricated.split("|"):
        assert claims(text), text
    # The least gain by which `--precision auto` takes a less exact variant.
    assert claims("only where it is at least 15 % faster, within 60 seconds") == []
    assert claims(prose_of("<!-- a:begin -->\n97.31 s\n<!-- a:end -->\n`97.31 s`\n```\n97.31 s\n```\n")) == []
