"""A calibration as one HTML page: the reliability diagram, the figures, the thresholds."""

from collections.abc import Sequence
from html import escape

from pairscore.runtime.report.page import figure, whole_page
from pairscore.runtime.report.pictures import STYLE
from pairscore.training.calibration.fit import Bin, CalibrationReport, Threshold

_SIDE = 340
_MARGIN = 40


def calibration_page(found: CalibrationReport) -> str:
    """The file."""
    title = f"Calibration of {found.bundle} in {found.precision}"
    counted = ", ".join(f"{count:,} {name}" for name, count in found.labels.items())
    pictures = [
        figure(
            heading,
            diagram(heading, bins),
            "Share of true pairs by probability. A dot's area goes by its pairs; on the line both agree.",
        )
        for heading, bins in (("Before", found.bins_before), ("After", found.bins_after))
    ]
    rows = [
        f"<tr><td>{escape(name)}</td><td>{found.scaling.before[name]:.4f}</td><td>{value:.4f}</td></tr>"
        for name, value in found.scaling.after.items()
    ]
    return whole_page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f"<p>{found.scaling.pairs:,} pairs of {found.claims:,} claims ({escape(counted)}). "
            "Figures are of claims that the fit had not seen.</p>",
            '<div class="pictures">',
            *pictures,
            "</div><h2>Figures</h2>",
            "<table><thead><tr><th></th><th>before</th><th>after</th></tr></thead><tbody>",
            *rows,
            "</tbody></table><h2>Thresholds</h2>",
            "<table><thead><tr><th>label</th><th>wanted</th><th>score at least</th><th>precision</th><th>recall</th>"
            "</tr></thead><tbody>",
            *(
                f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in threshold_cells(each))}</tr>"
                for each in found.thresholds
            ),
            "</tbody></table>",
        ],
    )


def threshold_cells(each: Threshold) -> tuple[str, ...]:
    """A row of the table of thresholds."""
    numbers = (each.score, each.precision, each.recall)
    return (each.label, each.wanted, *("none" if value is None else f"{value:.4f}" for value in numbers))


def diagram(title: str, bins: Sequence[Bin]) -> str:
    """The reliability diagram as SVG: probability to the right, share of true pairs upwards."""
    most = max((each.pairs for each in bins), default=1)
    whole = _SIDE + _MARGIN
    dots = [
        f'<circle cx="{_MARGIN + _SIDE * each.probability:.1f}" cy="{_SIDE * (1 - each.share):.1f}" '
        f'r="{3 + 11 * (each.pairs / most) ** 0.5:.1f}" fill="var(--c1)" fill-opacity="0.6">'
        f"<title>{each.pairs:,} pairs: probability {each.probability:.3f}, true {each.share:.3f}</title></circle>"
        for each in bins
    ]
    ticks = [
        f'<text class="muted" x="{_MARGIN + _SIDE * value - 8:.0f}" y="{_SIDE + 18}">{value:g}</text>'
        f'<text class="muted" x="{_MARGIN - 26}" y="{_SIDE * (1 - value) + 4 + 8 * value:.0f}">{value:g}</text>'
        for value in (0, 0.5, 1)
    ]
    name, box = escape(title, quote=True), f"0 0 {whole + 12} {_SIDE + 26}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{name}">'
        f"<title>{name}</title><style>{STYLE}</style>"
        f'<rect class="grid" x="{_MARGIN}" y="0" width="{_SIDE}" height="{_SIDE}"/>'
        f'<path class="grid" d="M{_MARGIN} {_SIDE}L{whole} 0"/>{"".join(dots)}{"".join(ticks)}</svg>'
    )
