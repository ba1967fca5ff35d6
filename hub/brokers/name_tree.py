"""The names of channels by their segments, so that a pattern costs as much as the channels that
match it.

A broker with a directory (`hub.core.ports.Directory`) keeps a tree of the names that it knows. No
I/O.
"""

import asyncio
from collections.abc import Iterator, Sequence

from hub.core.options import is_reserved
from hub.core.patterns import ONE, REST, names_reserved, segments

# Names looked at between two turns of the loop: about a millisecond. A guess.
_TURN = 1000


class _Branch:
    __slots__ = ("branches", "is_name")

    def __init__(self, *, is_name: bool = False) -> None:
        self.branches: dict[str, _Branch | None] = {}
        """Branches by next segment; None where a name ends and no other goes on, as most do."""
        self.is_name = is_name


class NameTree:
    """Names of channels, each once."""

    def __init__(self) -> None:
        self._root = _Branch()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        branch: _Branch | None = self._root
        *before, last = segments(name)
        for part in before:
            if branch is None or (branch := branch.branches.get(part)) is None:
                return False
        if branch is None or last not in branch.branches:
            return False
        found = branch.branches[last]
        return found is None or found.is_name

    def add(self, name: str) -> bool:
        """Add a name; return whether it is new."""
        branch = self._root
        *before, last = segments(name)
        for part in before:
            following = branch.branches.get(part)
            if following is None:
                following = _Branch(is_name=part in branch.branches)
                branch.branches[part] = following
            branch = following
        if last not in branch.branches:
            branch.branches[last] = None
        elif (found := branch.branches[last]) is None or found.is_name:
            return False
        else:
            found.is_name = True
        self._count += 1
        return True

    def remove(self, name: str) -> None:
        """Remove a name; harmless for an unknown one."""
        if name not in self:
            return
        self._count -= 1
        *before, last = segments(name)
        way = [self._root]
        for part in before:
            if (following := way[-1].branches[part]) is not None:
                way.append(following)
        if (found := way[-1].branches[last]) is not None:
            found.is_name = False
            return
        del way[-1].branches[last]
        for above, branch, part in zip(way[-2::-1], way[:0:-1], reversed(before), strict=True):
            if branch.branches:
                return
            if branch.is_name:
                above.branches[part] = None
                return
            del above.branches[part]

    def matching(self, pattern: str) -> Iterator[str | None]:
        """Yield the names that a checked pattern matches, also while others are added and removed.

        It yields None in between, each time that other work should get a turn.
        """
        walk = _Walk(segments(pattern))
        names = walk.from_(self._root, "", 0)
        if names_reserved(pattern):
            yield from names
        else:
            # Channels of the hub itself match only a pattern that names them.
            yield from (name for name in names if name is None or not is_reserved(name))

    async def find(self, pattern: str, most: int) -> Sequence[str]:
        """Return at most so many of the names that match."""
        found: list[str] = []
        for name in self.matching(pattern):
            if name is None:
                await asyncio.sleep(0)
                continue
            found.append(name)
            if len(found) == most:
                break
        return found


class _Walk:
    """A search through a tree."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts
        self._looked_at = 0

    def from_(self, branch: _Branch, text: str, place: int) -> Iterator[str | None]:
        """Yield the names below `branch`, at `text`, that the parts from `place` match."""
        part = self._parts[place]
        separator = part[:1] if place else ""
        star = part.removeprefix(separator)
        if star == REST:
            yield from self._rest(branch, text, separator)
        elif star == ONE:
            for each, following in self._branches(branch):
                if each is None:
                    yield None
                elif each.startswith(separator) and each != separator:
                    yield from self._at(following, text + each, place)
        elif part in branch.branches:
            yield from self._at(branch.branches[part], text + part, place)

    def _at(self, following: _Branch | None, text: str, place: int) -> Iterator[str | None]:
        if place < len(self._parts) - 1:
            if following is not None:
                yield from self.from_(following, text, place + 1)
        elif following is None or following.is_name:
            yield text

    def _rest(self, branch: _Branch, text: str, separator: str) -> Iterator[str | None]:
        for each, following in self._branches(branch):
            if each is None:
                yield None
            elif each.startswith(separator):
                if each != separator and (following is None or following.is_name):
                    yield text + each
                if following is not None:
                    yield from self._all(following, text + each)

    def _all(self, branch: _Branch, text: str) -> Iterator[str | None]:
        for each, following in self._branches(branch):
            if each is None:
                yield None
                continue
            if following is None or following.is_name:
                yield text + each
            if following is not None:
                yield from self._all(following, text + each)

    def _branches(self, branch: _Branch) -> Iterator[tuple[str | None, _Branch | None]]:
        """Yield the branches of now that are still there at their turn; None for a turn of
        other work."""
        for each in tuple(branch.branches):
            self._looked_at += 1
            if not self._looked_at % _TURN:
                yield None, None
            if each in branch.branches:
                yield each, branch.branches[each]
