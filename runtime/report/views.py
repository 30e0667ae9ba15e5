"""A survey for people: tables and bars in a terminal, or one page."""

from html import escape

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pairscore.runtime.errors import shorten
from pairscore.runtime.report.page import figure, whole_page
from pairscore.runtime.report.pictures import Bar, bars
from pairscore.runtime.report.survey import ClaimRows, Histogram, Row, Survey

# How much of a text is shown.
_CHARACTERS = 400
_BAR_CHARACTERS = 40


def print_survey(seen: Survey, console: Console) -> None:
    """Print it all; texts are shortened and freed of control characters."""
    say = console.out
    for line in headlines(seen):
        say(shorten(line, _CHARACTERS), highlight=False)
    for name, spread in seen.scores.items():
        say(f"\nSpread of {shorten(name, _CHARACTERS)} (median {spread.quantile(0.5):.4g})", highlight=False)
        for label, count, share in _bins(spread):
            say(f"{label:>17} {'█' * round(_BAR_CHARACTERS * share):<{_BAR_CHARACTERS}} {count:,}", highlight=False)
    if seen.claims:
        table = Table("claim", "", "evidence", "score", title=_heading(seen), show_lines=True)
        for claim, name, row in _shown(seen):
            first = f"{shorten(claim.claim, _CHARACTERS)} ({claim.rows:,} rows)" if claim else ""
            table.add_row(Text(first), Text(name), Text(shorten(row.evidence, _CHARACTERS)), f"{row.score:.4f}")
        console.print(table)


def headlines(seen: Survey) -> list[str]:
    """What it is, in lines: rows, what scored them, lengths."""
    settings = seen.told.get("settings", {})
    source = seen.told.get("source", {})
    unfinished = "" if seen.whole else ", not finished"
    lines = [f"{seen.name}: {seen.rows:,} rows, {seen.unscored:,} without a score, {seen.files:,} files{unfinished}"]
    if settings:
        lines.append(
            f"Scored by {source.get('name', 'an unknown model')} in {settings.get('precision')} on "
            f"{settings.get('engine')} ({settings.get('device')}), at most {settings.get('max_length')} tokens a pair"
        )
    if seen.truncated:
        lines.append(
            f"{seen.truncated:,} of {seen.pairs:,} pairs were cut to {settings.get('max_length')} tokens "
            f"({seen.truncated / seen.pairs:.1%})"
        )
    lines += [
        f"Characters of {name}: median about {each.quantile(0.5):,.0f}, 95 % below about {each.quantile(0.95):,.0f}"
        for name, each in seen.lengths.items()
        if each.counts.any()
    ]
    return lines


def survey_page(seen: Survey) -> str:
    """The same as one HTML file with pictures."""
    title = f"Scores of {seen.name}"
    pictures = [
        figure(
            f"Spread of {name}",
            bars(name, [Bar(label, count, f"{count:,}", ours=True) for label, count, _ in _bins(spread)]),
            f"Rows by score; the median is {spread.quantile(0.5):.4g}.",
        )
        for name, spread in seen.scores.items()
    ]
    pictures += [
        figure(
            f"Length of {name}",
            bars(name, [Bar(label, count, f"{count:,}") for label, count in _length_bins(spread)]),
            "Rows by characters of text.",
        )
        for name, spread in seen.lengths.items()
    ]
    body = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in headlines(seen))]
    body += ['<div class="pictures">', *pictures, "</div>"]
    if seen.claims:
        body += [f"<h2>{_heading(seen)}</h2>", '<div class="wide"><table>']
        body.append("<thead><tr><th>claim</th><th></th><th>evidence</th><th>score</th></tr></thead><tbody>")
        for claim, name, row in _shown(seen):
            rows = f" <span class=soft>({claim.rows:,} rows)</span>" if claim else ""
            first = escape(shorten(claim.claim, _CHARACTERS)) + rows if claim else ""
            body.append(
                f'<tr><td class="text">{first}</td><td>{escape(name)}</td>'
                f'<td class="text">{escape(shorten(row.evidence, _CHARACTERS))}</td><td>{row.score:.4f}</td></tr>'
            )
        body.append("</tbody></table></div>")
    return whole_page(title, body)


def _heading(seen: Survey) -> str:
    return "Best evidence for each label" if seen.claims[0].label else "Best and worst evidence"


def _shown(seen: Survey) -> list[tuple[ClaimRows | None, str, Row]]:
    """The rows of the table: the claim where it stands for the first time, what the row is, and the row."""
    shown: list[tuple[ClaimRows | None, str, Row]] = []
    before = None
    for claim in seen.claims:
        best = f"best {claim.label}".strip()
        named = [*((best, row) for row in claim.best), *(("worst", row) for row in reversed(claim.worst))]
        for name, row in named:
            shown.append((claim if claim.claim != before else None, name, row))
            before = claim.claim
    return shown


def _bins(spread: Histogram) -> list[tuple[str, int, float]]:
    """(range, count, share of the largest count) of each bin."""
    largest = max(1, int(spread.counts.max()))
    return [
        (f"{low:.3g} to {high:.3g}", int(count), int(count) / largest)
        for low, high, count in zip(spread.edges[:-1], spread.edges[1:], spread.counts, strict=True)
    ]


def _length_bins(spread: Histogram) -> list[tuple[str, int]]:
    """(range, count) from the first bin that holds something to the last."""
    filled = np.flatnonzero(spread.counts)
    if not len(filled):
        return []
    return [
        (f"{spread.edges[place]:,.0f} to {spread.edges[place + 1]:,.0f}", int(spread.counts[place]))
        for place in range(filled[0], filled[-1] + 1)
    ]
