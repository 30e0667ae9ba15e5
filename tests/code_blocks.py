"""The code blocks of a page, for tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_blocks(page: str, mark: str = "") -> list[tuple[str, str]]:
    """(language, code) of every block of a page in which `mark` stands. page: relative to the repository."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, code) for language, code in found if mark in code]
