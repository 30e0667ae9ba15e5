"""Show a survey: as tables and bars in a terminal, or as one page."""

from html import escape

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pairscore.runtime.errors import shorten
from pairscore.runtime.report.page import figure, whole_page
from pairscore.runtime.report.pictures import histogram
from pairscore.runtime.report.survey import ClaimRows, EvidenceRow, Histogram, Survey

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
    settings = seen.metadata.get("settings", {})
    source = seen.metadata.get("source", {})
    files = f"{seen.files:,} file{'' if seen.files == 1 else 's'}"
    unfinished = "" if seen.whole else ", not finished"
    lines = [f"{seen.name}: {seen.rows:,} rows, {seen.unscored:,} without a score, {files}{unfinished}"]
    if settings:
        lines.append(
            f"Scored by {source.get('name', 'an unknown model')} in {settings.get('precision')} on "
            f"{settings.get('engine')} ({settings.get('device')}), at most {settings.get('max_length')} tokens a pair"
            + (f", activation {settings['activation']}" if "activation" in settings else "")
            + (", long evidence split into passages" if settings.get("long_evidence") == "split" else "")
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
            histogram(f"Rows by {name}", spread.counts.tolist(), [f"{edge:.3g}" for edge in spread.edges]),
            f"Rows by {name}; the median is {spread.quantile(0.5):.4g}. Point at a bar for its count.",
        )
        for name, spread in seen.scores.items()
    ]
    pictures += [
        figure(
            f"Length of {name}",
            histogram(f"Rows by characters of {name}", *_filled(spread)),
            f"Rows by characters of the {name}; the median is about {spread.quantile(0.5):,.0f}.",
        )
        for name, spread in seen.lengths.items()
        if spread.counts.any()
    ]
    body = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in headlines(seen))]
    body += ['<div class="pictures">', *pictures, "</div>"]
    if seen.claims:
        body += [f"<h2>{_heading(seen)}</h2>", '<div class="claims">']
        for claim, name, row in _shown(seen):
            if claim:
                end = "</div>" if claim is not seen.claims[0] else ""
                rows = f"<span class=soft>({claim.rows:,} rows)</span>"
                body.append(f'{end}<h3>{escape(shorten(claim.claim, _CHARACTERS))} {rows}</h3><div class="evidence">')
            body.append(
                f'<span class="score">{row.score:.4f}</span><span class="soft">{escape(name)}</span>'
                f"<span>{escape(shorten(row.evidence, _CHARACTERS))}</span>"
            )
        body.append("</div></div>")
    return whole_page(title, body)


def _heading(seen: Survey) -> str:
    return "Best evidence for each label" if seen.claims[0].label else "Best and worst evidence"


def _shown(seen: Survey) -> list[tuple[ClaimRows | None, str, EvidenceRow]]:
    """The rows of the table: the claim where it stands for the first time, what the row is, and the row."""
    shown: list[tuple[ClaimRows | None, str, EvidenceRow]] = []
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


def _filled(spread: Histogram) -> tuple[list[int], list[str]]:
    """Counts and edges from the first bin that holds something to the last."""
    filled = np.flatnonzero(spread.counts)
    first, stop = int(filled[0]), int(filled[-1]) + 1
    return spread.counts[first:stop].tolist(), [f"{edge:,.0f}" for edge in spread.edges[first : stop + 1]]
