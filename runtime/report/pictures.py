"""Bar, point and line pictures as SVG text. Colours come from CSS variables, so that they follow light and dark.

Every picture is 400 units wide: small enough that its text stays readable on a telephone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

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
svg .number{font-size:10px}svg .muted{fill:var(--muted)}svg .grid{stroke:var(--grid);fill:none}
""".replace("\n", "")
_COLOURS = 6


@dataclass(frozen=True)
class Bar:
    """`value` decides the length, `note` stands behind it."""

    name: str
    value: float
    note: str
    ours: bool = False


@dataclass(frozen=True)
class Series:
    """Points (x, y) under one name. `ours` decides the colour where `plot` numbers the series."""

    name: str
    points: Sequence[tuple[float, float]]
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
            f"{escape(_shorten(row.name, 58))}</text>"
            f'<rect x="0" y="{top + 17}" width="{width:.1f}" height="13" rx="2" fill="var(--c{1 if row.ours else 0})"/>'
            f'<text class="muted" x="{width + 6:.1f}" y="{top + 28}">{escape(row.note)}</text>'
        )
    return _svg(title, 38 * len(rows) + 8, parts)


def plot(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    lines: bool = False,
    log_x: bool = False,
    diagonal: bool = False,
    numbered: bool = False,
    whole_x: bool = False,
    radius: float = 5,
) -> str:
    """Points, joined where `lines`, with a legend below. `diagonal`: draw y = x over the unit square.

    `numbered`: tell the series apart by numbers, for more of them than there are colours. `whole_x`: x is a count.
    """
    points = [point for each in series for point in each.points]
    if not points:
        return _svg(title, 30, ['<text x="0" y="20" class="muted">nothing to show</text>'])
    left, right, top, bottom = 44, 380, 26, 230
    xs = _axis([x for x, _ in points], log_x, diagonal, smallest_step=1 if whole_x else 0)
    ys = _axis([y for _, y in points], False, diagonal, from_zero=lines)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return left + xs.share(point[0]) * (right - left), bottom - ys.share(point[1]) * (bottom - top)

    parts = [f'<text class="muted" x="0" y="11">{escape(y_label)}</text>']
    for value in ys.ticks:
        y = bottom - ys.share(value) * (bottom - top)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        parts.append(f'<text class="muted" x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in xs.ticks:
        x = left + xs.share(value) * (right - left)
        parts.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
        parts.append(f'<text class="muted" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(value)}</text>')
    parts.append(f'<text class="muted" x="{right}" y="{bottom + 33}" text-anchor="end">{escape(x_label)}</text>')
    if diagonal:
        (x0, y0), (x1, y1) = at((0, 0)), at((1, 1))
        parts.append(f'<path class="grid" stroke-dasharray="4 4" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>')
    for place, each in enumerate(series):
        colour = f"var(--c{int(each.ours) if numbered else place % _COLOURS})"
        places = [at(point) for point in each.points]
        if numbered:
            parts.extend(
                f'<text class="number" x="{min(x + radius + 2, WIDTH - 12):.1f}" y="{y + 4:.1f}">{place + 1}</text>'
                for x, y in places
            )
        if lines:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            parts.append(f'<path fill="none" stroke="{colour}" stroke-width="2" d="M{path}"/>')
        parts.extend(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 if lines else radius}" fill="{colour}" fill-opacity=".75"/>'
            for x, y in places
        )
        y_legend = bottom + 52 + 18 * place
        name = f"{place + 1}  {each.name}" if numbered else each.name
        parts.append(f'<circle cx="6" cy="{y_legend - 4}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="18" y="{y_legend}">{escape(_shorten(name, 58))}</text>')
    return _svg(title, bottom + 44 + 18 * len(series) + 4, parts)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value stands between the ends, in [0, 1]."""
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return (value - low) / (high - low)


def _axis(
    values: Sequence[float], log: bool, unit: bool, *, from_zero: bool = False, smallest_step: float = 0
) -> _Axis:
    if unit:
        return _Axis(0, 1, False, (0, 0.25, 0.5, 0.75, 1))
    if log:
        positive = [value for value in values if value > 0] or [1.0]
        first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        last = max(last, first + 1)
        every = max(1, (last - first + 4) // 5)
        return _Axis(10.0**first, 10.0**last, True, tuple(10.0**power for power in range(first, last + 1, every)))
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high <= low:
        low, high = low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9
    step = 10.0 ** math.floor(math.log10(max(high - low, abs(high) * 1e-3, 1e-12)))
    while (high - low) / step < 3:
        step /= 2
    while (high - low) / step > 6:
        step *= 2
    step = max(step, smallest_step)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return _Axis(low, high, False, tuple(low + step * place for place in range(round((high - low) / step) + 1)))


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title><style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _number(value: float) -> str:
    if value and (abs(value) < 1e-2 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:g}"
