"""Points as SVG text, drawn by Matplotlib, in the colours and width of the runtime's bars."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pairscore.runtime.report.pictures import STYLE, WIDTH

# Matplotlib draws in these colours, which then give way to the variables of `STYLE`.
_INK, _MUTED, _GRID = "#1d2733", "#5d6b7a", "#d9e0e7"
_COLOURS = ("#8a97a6", "#0b6bcb", "#c2410c", "#0f8a5f", "#8b3fc7", "#a16207")
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "grid", **{each: f"c{i}" for i, each in enumerate(_COLOURS)}}
_FONT = "svg text{font-family:system-ui,sans-serif!important}"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 11, "text.color": _INK, "axes.labelcolor": _MUTED, "xtick.color": _MUTED,
    "ytick.color": _MUTED, "axes.edgecolor": _GRID, "grid.color": _GRID, "legend.frameon": False, "legend.fontsize": 11,
}  # fmt: skip
_LONGEST_NAME = 58


@dataclass(frozen=True)
class Series:
    """Points (x, y) under one name. `ours` decides the colour where `plot` numbers the series."""

    name: str
    points: Sequence[tuple[float, float]]
    ours: bool = False


def plot(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    log_x: bool = False,
    diagonal: bool = False,
    numbered: bool = False,
    size: float = 7,
) -> str:
    """Points with a legend below. `diagonal`: draw y = x over the unit square.

    `numbered`: tell the series apart by numbers, for more of them than there are colours. `size`: of a point.
    """
    height = 252 + 16 * len(series)
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        axes = figure.add_subplot()
        axes.set_position((44 / WIDTH, 1 - 226 / height, 336 / WIDTH, 200 / height))
        axes.grid(visible=True)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel(x_label, loc="right")
        axes.set_title(y_label, loc="left", color=_MUTED, fontsize=11, x=-44 / 336)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if log_x:
            axes.set_xscale("log")
        handles = []
        for place, each in enumerate(series):
            colour = _COLOURS[int(each.ours) if numbered else place % len(_COLOURS)]
            x, y = [point[0] for point in each.points], [point[1] for point in each.points]
            (drawn,) = axes.plot(x, y, marker="o", linestyle="", color=colour, markersize=size, alpha=0.8)
            drawn.set_gid(f"series-{place}")
            for point in each.points if numbered else ():
                axes.annotate(str(place + 1), point, (5, -3), textcoords="offset points", fontsize=9)
            name = f"{place + 1}  {each.name}" if numbered else each.name
            handles.append(Line2D([], [], marker="o", linestyle="", color=colour, label=_shorten(name)))
        if diagonal:
            axes.plot([0, 1], [0, 1], color=_GRID, linestyle="--")
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 0), borderaxespad=0, handletextpad=0.2,
            labelspacing=0.25,
        )  # fmt: skip
        return _svg(title, figure)


def _svg(title: str, figure: Figure) -> str:
    """Text that depends on the picture alone: no date, and names made from the title."""
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (xmlns:xlink|width|height|version)="[^"]*"', "", text, count=4).replace("xlink:href", "href")
    for light, name in _VARIABLES.items():
        text = text.replace(light, f"var(--{name})")
    text = re.sub(r'\b(id="|url\(#|href="#)', lambda found: found[0] + _slug(title) + "-", text)
    return (
        text.replace("<defs>", f"<style>{STYLE}{_FONT}</style><defs>", 1).replace("<svg", '<svg role="img"', 1).strip()
    )


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
