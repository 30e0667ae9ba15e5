"""Bars and histograms as SVG text. Colours come from CSS variables, so that they follow light and dark.

Every picture is 400 units wide: small enough that its text stays readable on a telephone.
"""

import math
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


# A histogram's frame within its 400 units, and the lowest bar that an eye sees.
_LEFT, _TOP, _HEIGHT, _BOTTOM = 52, 26, 170, 24
_LEAST_BAR = 2.0


def histogram(title: str, counts: Sequence[int], edges: Sequence[str]) -> str:
    """Upright bars, side by side. edges: one label more than there are counts; as many are written as fit.

    Counts are drawn on a linear scale, or on a logarithmic one where the smallest bar would vanish on it.
    """
    largest = max(counts, default=0)
    smallest = min((count for count in counts if count), default=0)
    linear = largest == 0 or _HEIGHT * smallest / largest >= _LEAST_BAR
    top = math.log10(2 * largest) if largest else 1.0

    def height(count: float) -> float:
        if linear:
            return _HEIGHT * count / max(1, largest)
        return _HEIGHT * math.log10(2 * count) / top if count else 0.0  # one row is half a decade's rise above none

    scale = "rows" if linear else "rows, on a logarithmic scale"
    parts = [f'<text class="muted" x="{_LEFT}" y="12">{scale}</text>']
    powers = [10**power for power in range(len(str(largest)))] if not linear else []
    for tick in powers or [0, largest // 2, largest]:
        y = _TOP + _HEIGHT - height(tick)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH}"/>'
            f'<text class="muted" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
    step = (WIDTH - _LEFT) / max(1, len(counts))
    for place, count in enumerate(counts):
        high = height(count)
        parts.append(
            f'<rect x="{_LEFT + step * place + 1:.1f}" y="{_TOP + _HEIGHT - high:.1f}" width="{step - 2:.1f}" '
            f'height="{high:.1f}" fill="var(--c1)"><title>{escape(edges[place])} to {escape(edges[place + 1])}: '
            f"{count:,}</title></rect>"
        )
    fewest = max(1, math.ceil(len(counts) * max(map(len, edges), default=1) / 36))
    # Equal steps that end at the last edge, where some exist that leave half of the labels that fit, or more.
    every = next((step for step in range(fewest, 2 * fewest + 1) if len(counts) % step == 0), fewest)
    for place in range(0, len(edges), every):
        anchor = "start" if place == 0 else "end" if place == len(counts) else "middle"
        parts.append(
            f'<text class="muted" x="{_LEFT + step * place:.1f}" y="{_TOP + _HEIGHT + 16}" '
            f'text-anchor="{anchor}">{escape(edges[place])}</text>'
        )
    return _svg(title, _TOP + _HEIGHT + _BOTTOM, parts)


def _short(count: int) -> str:
    """A count in few characters: 950, 12k, 3.5M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title><style>{STYLE}</style>{''.join(parts)}</svg>"
    )
