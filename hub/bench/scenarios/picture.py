"""Draw a result as a picture: one bar for each contestant, and the goals. Plain SVG.

The picture is light or dark as the reader's page is; all figures stand in it as text too.
"""

from collections.abc import Iterator
from html import escape

from hub.bench.scenarios.scenario import Goal, Result

_ROW, _LEFT, _BARS_WIDTH, _VALUE_WIDTH = 26, 10, 380, 100
_LETTER, _BOLD_LETTER = 7.5, 8.5
"""The width of a letter at 14 pixels, on average: of DejaVu Sans, which is wider than most."""
_LEAST_LABEL_WIDTH = 220
_STYLE = (
    "<style>svg { color: #1a1a1a } "
    "@media (prefers-color-scheme: dark) { svg { color: #e6e6e6 } }</style>"
)
DISTURBED = "DISTURBED by other work on this machine"
_MARKS = {True: "reached", False: "not reached", None: ""}


def picture(about: str, result: Result) -> str:
    """Return the SVG document; `about` is the scenario's description."""
    rows = list(_rows(about, result))
    width = _width(about, result)
    height = _ROW * (len(rows) + 1)
    body = "\n".join(row.format(y=_ROW * (at + 1)) for at, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="t" font-family="sans-serif" font-size="14" fill="currentColor">\n'
        f"{_STYLE}\n"
        f'<title id="t">{escape(about)}: {escape(result.bars_about)}</title>\n'
        f"{body}\n</svg>\n"
    )


def _bars_from(result: Result) -> int:
    """Return where the bars begin: behind the longest label."""
    longest = max((len(bar.label) for bar in result.bars), default=0)
    return _LEFT + max(_LEAST_LABEL_WIDTH, round(longest * _LETTER))


def _width(about: str, result: Result) -> int:
    """Return the width that no row exceeds."""
    lines = [result.bars_about, *_lines(result)]
    texts = (len(about) * _BOLD_LETTER, *(len(line) * _LETTER for line in lines))
    return max(_bars_from(result) + _BARS_WIDTH + _VALUE_WIDTH, _LEFT + round(max(texts)))


def _lines(result: Result) -> Iterator[str]:
    yield from (goal_line(goal) for goal in result.goals)
    if result.disturbed:
        yield DISTURBED


def _rows(about: str, result: Result) -> Iterator[str]:
    """Yield the rows, each with a place for its height on the page."""
    left, bars_from = _LEFT, _bars_from(result)
    yield f'<text x="{left}" y="{{y}}" font-weight="bold">{_text(about)}</text>'
    yield f'<text x="{left}" y="{{y}}" opacity="0.7">{_text(result.bars_about)}</text>'
    largest = max((bar.value for bar in result.bars), default=1) or 1
    for number, bar in enumerate(result.bars):
        width = max(1, round(bar.value / largest * _BARS_WIDTH))
        label = f'<text x="{left}" y="{{y}}">{_text(bar.label)}</text>'
        opacity = 0.85 if number == 0 else 0.4
        rect = (
            f'<rect x="{bars_from}" y="{{y}}" width="{width}" height="16" rx="2" '
            f'transform="translate(0 -13)" opacity="{opacity}"/>'
        )
        value = f'<text x="{bars_from + width + 8}" y="{{y}}">{bar.value:,.2f}</text>'
        yield label + rect + value
    for line in _lines(result):
        yield f'<text x="{left}" y="{{y}}">{_text(line)}</text>'


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
