"""Finds a misspelt parameter of a query or field of a command, and the known one in its place.

A query may hold unknown parameters, because proxies and caches add some. A name that is almost a
known one is a mistake of its author, who would otherwise see a subscription without messages, or a
refusal for want of a token. So that name is refused, and the answer names both. The answer never
holds a value, and no name that is unlike all known ones, because either may be a secret.

Two names are alike when they are equal without case, `_` and `-`, or become equal when one letter
is taken out of one or both of them. Example: `chanel` and `channels` for `channel`, `lsat` for
`last`, `lastEventID` for `last_event_id`. In a short name a letter may be left out, added or
swapped with the next one, but none may differ, because `list` and `past` are words of their own.
"""

from collections.abc import Iterable

from hub.errors import BadRequestError

# A peer without credentials may send a query, so the work is bounded: of so many unknown names as
# many letters are looked at as the longest known name has, and one more.
_MAX_NAMES = 4
_SHORT_LENGTH = 4


class ParameterNames:
    """The names of the parameters of one query, or of the fields of commands."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names; of two that a misspelt one is like, the earlier is meant."""
        known = tuple(names)
        self._longest = 1 + max(map(len, known), default=0)
        self._names = frozenset(known)
        self._alike: dict[str, str] = {}
        """Known names by what is left of them without any one letter, or without none."""
        for name in known:
            plain = _plain(name)
            for shape in (plain, *_shorter(plain)):
                self._alike.setdefault(shape, name)

    def refuse_misspelt(self, given: Iterable[str], *, kind: str = "parameter") -> None:
        """Raise `BadRequestError` where one of the `given` names is almost a known one.

        `kind` says what they are names of.
        """
        unknown = [name for name in given if name not in self._names]
        for name in unknown[:_MAX_NAMES]:
            if (meant := self.meant_by(name)) is not None:
                raise BadRequestError(f"{name} is not a {kind}; did you mean {meant}?")

    def meant_by(self, name: str) -> str | None:
        """Return the known name that an unknown one is almost; None where there is none."""
        if len(name) > self._longest or not name.isascii() or not name.isprintable():
            return None
        plain = _plain(name)
        for shape in (plain, *_shorter(plain)):
            known = self._alike.get(shape)
            if known is not None and _is_close(plain, _plain(known)):
                return known
        return None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _shorter(name: str) -> Iterable[str]:
    return (name[:at] + name[at + 1 :] for at in range(len(name)))


def _is_close(name: str, known: str) -> bool:
    """Return whether a short name has no letter in place of another."""
    return len(known) > _SHORT_LENGTH or len(name) != len(known) or sorted(name) == sorted(known)
