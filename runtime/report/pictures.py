"""Bars as SVG text. Colours come from CSS variables, so that they follow light and dark.

Every picture is 400 units wide: small enough that its text stays readable on a telephone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pairscore.runtime.errors import shorten

WIDTH = 400
# Also for pictures that stand alone, as in a README.
STYLE = """
svg{--ink:#1d2733;--muted:#5d6b7a;--grid:#d9e0e7;--c0:#8a97a6;--c1:#0b6bcb;--c2:#c2410c;
--c3:#0f8a5f;
--c4:#8b3fc7;--c5:#a16207}
@media (prefers-color-scheme:dark){svg{--ink:#e6edf3;--muted:#9aa7b4;--grid:#323c47;--c0:#7d8b99;
--c1:#58a6ff;--c2:#ff8f5a;
--c3:#3fcf94;--c4:#c792ff;--c5:#e3b341}}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .muted{fill:var(--muted)}svg .grid{stroke:var(--grid);fill:none}
""".replace("\n", "")


@dataclass(frozen=True)
class Bar:
    """`value` decides the length, `note` stands behind it."""

    name: str
    value: float
    note: str
    ours: bool = False


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars, each name above its bar."""
    longest = max((row.value for row in rows), default=0) or 1
    parts = []
    for place, row in enumerate(rows):
        top = 4 + 38 * place
        width = max(1.0, 290 * row.value / longest)
        parts.append(
            f'<text x="0" y="{top + 12}"{" font-weight=" + chr(34) + "700" + chr(34) if row.ours else ""}>'
            f"{escape(shorten(row.name, 58))}</text>"
            f'<rect x="0" y="{top + 17}" width="{width:.1f}" height="13" rx="2" fill="var(--c{1 if row.ours else 0})"/>'
            f'<text class="muted" x="{width + 6:.1f}" y="{top + 28}">{escape(row.note)}</text>'
        )
    return _svg(title, 38 * len(rows) + 8, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title><style>{STYLE}</style>{''.join(parts)}</svg>"
    )
