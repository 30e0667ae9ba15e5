"""A page that stands alone: one HTML file that asks nothing of the network and runs no script."""

from collections.abc import Sequence
from html import escape

_CSS = """
:root{color-scheme:light dark;--page:#fff;--text:#1d2733;--soft:#5d6b7a;--line:#d9e0e7;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--page:#11161c;--text:#e6edf3;--soft:#9aa7b4;--line:#323c47;--bad:#ff8a80}}
body{margin:0 auto;max-width:80rem;padding:1rem;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}p{margin:.5rem 0;overflow-wrap:anywhere}
.soft{color:var(--soft)}.bad{color:var(--bad)}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem}th,td{padding:.3rem .5rem;border-bottom:1px solid var(--line);
text-align:right}
th:first-child,td:first-child{text-align:left;min-width:11rem}.why,td.text{text-align:left}
td.text{overflow-wrap:anywhere;min-width:16rem}
tr.ours td:first-child{font-weight:700}
.claims h3{border-top:1px solid var(--line);padding-top:.6rem;font-size:1rem;margin:.6rem 0 .25rem}
.claims{overflow-wrap:anywhere}
.evidence{display:grid;grid-template-columns:4rem fit-content(14rem) 1fr;gap:.35rem .75rem;margin:.35rem 0}
.score{font-variant-numeric:tabular-nums;font-weight:700}
@media (max-width:32rem){.evidence{grid-template-columns:4rem 1fr}
.evidence span:nth-child(3n){grid-column:1/-1;margin-bottom:.35rem}}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1.5rem 2.5rem}
figure{margin:0}figcaption{font-size:.85rem;color:var(--soft)}svg{width:100%;height:auto;display:block}
"""


def whole_page(title: str, body: Sequence[str]) -> str:
    """The file. title: plain text. body: pieces of HTML, in which every name that a user chose is escaped."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def figure(heading: str, picture: str, caption: str) -> str:
    """A picture with its heading and caption. picture: SVG."""
    return f"<figure><h2>{escape(heading)}</h2>{picture}<figcaption>{escape(caption)}</figcaption></figure>"
