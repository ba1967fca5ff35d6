"""Draw a result as a picture: one bar for each contestant, and the goals. Plain SVG.

The picture is light or dark as the reader's page is; all figures stand in it as text too.
"""

from collections.abc import Iterator
from html import escape

from hub.bench.scenarios.scenario import Goal, Result

_WIDTH, _ROW, _BARS_FROM, _BARS_WIDTH = 720, 26, 230, 380
_STYLE = (
    "<style>svg { color: #1a1a1a } "
    "@media (prefers-color-scheme: dark) { svg { color: #e6e6e6 } }</style>"
)
_MARKS = {True: "reached", False: "not reached", None: ""}


def picture(about: str, result: Result) -> str:
    """Return the SVG document; `about` is the scenario's description."""
    rows = list(_rows(about, result))
    height = _ROW * (len(rows) + 1)
    body = "\n".join(row.format(y=_ROW * (at + 1)) for at, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="t" font-family="sans-serif" font-size="14" fill="currentColor">\n'
        f"{_STYLE}\n"
        f'<title id="t">{escape(about)}: {escape(result.bars_about)}</title>\n'
        f"{body}\n</svg>\n"
    )


def _rows(about: str, result: Result) -> Iterator[str]:
    """Yield the rows, each with a place for its height on the page."""
    yield f'<text x="10" y="{{y}}" font-weight="bold">{_text(about)}</text>'
    yield f'<text x="10" y="{{y}}" opacity="0.7">{_text(result.bars_about)}</text>'
    largest = max((bar.value for bar in result.bars), default=1) or 1
    for number, bar in enumerate(result.bars):
        width = max(1, round(bar.value / largest * _BARS_WIDTH))
        label = f'<text x="10" y="{{y}}">{_text(bar.label)}</text>'
        opacity = 0.85 if number == 0 else 0.4
        rect = (
            f'<rect x="{_BARS_FROM}" y="{{y}}" width="{width}" height="16" rx="2" '
            f'transform="translate(0 -13)" opacity="{opacity}"/>'
        )
        value = f'<text x="{_BARS_FROM + width + 8}" y="{{y}}">{bar.value:,.2f}</text>'
        yield label + rect + value
    for goal in result.goals:
        yield f'<text x="10" y="{{y}}">{_text(goal_line(goal))}</text>'


def goal_line(goal: Goal) -> str:
    """Return a figure and its goal, in one line."""
    value = "not known" if goal.value is None else f"{goal.value:,.4g} {goal.unit}".rstrip()
    if goal.value is not None and goal.value >= 1000:
        value = f"{goal.value:,.0f} {goal.unit}".rstrip()
    mark = _MARKS[goal.met]
    asked = f" ({goal.asked}: {mark})" if mark else ""
    return f"{goal.about}: {value}{asked}"


def _text(text: str) -> str:
    return escape(text).replace("{", "{{").replace("}", "}}")
