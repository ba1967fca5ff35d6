"""The patterns that sessions subscribe to, at all nodes, and how many sessions do."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from hub.admin.requests import Admin, AdminRequest, Everywhere, Handlers

# Of one node, those with most sessions: 200 characters each at most, so 200 KB.
_MOST = 1000


@dataclass(frozen=True, slots=True)
class PatternRecord:
    pattern: str
    sessions: int
    """That subscribe to it."""


class PatternPart(msgspec.Struct, frozen=True):
    """What one node has, those with most sessions first."""

    rows: tuple[PatternRecord, ...]
    total: int
    """How many patterns it has, of which these may be a part."""


class ListPatterns(AdminRequest[PatternPart], frozen=True, tag="patterns"):
    """This node's part."""


class PatternList(msgspec.Struct, frozen=True):
    """Over all nodes, those with most sessions first."""

    patterns: Sequence[PatternRecord]
    total: int
    """How many there are; at least so many, where one node has more than it says at once."""
    complete: bool
    unanswered: tuple[str, ...]


class Patterns:
    """Carries it out at this node.

    Args:
        counts: the patterns of this node's sessions, and how many subscribe to each.
    """

    def __init__(self, counts: Callable[[], Sequence[tuple[str, int]]]) -> None:
        self._counts = counts

    def handlers(self) -> Handlers:
        return {ListPatterns: self._part}

    async def _part(self, _asked: ListPatterns) -> PatternPart:
        counted = self._counts()
        return PatternPart(_most(dict(counted), _MOST), len(counted))


async def list_patterns(admin: Admin, limit: int) -> PatternList:
    """The first `limit` of all nodes together."""
    answers = await admin.call(ListPatterns(), Everywhere())
    parts = list(answers.by_tag.values())
    summed: Counter[str] = Counter()
    for row in (row for part in parts for row in part.rows):
        summed[row.pattern] += row.sessions
    total = max([len(summed), *(part.total for part in parts)])
    return PatternList(_most(summed, limit), total, answers.complete, answers.unanswered)


def _most(counted: dict[str, int], limit: int) -> tuple[PatternRecord, ...]:
    first = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(PatternRecord(pattern, sessions) for pattern, sessions in first[:limit])
