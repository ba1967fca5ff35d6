"""A subscription to a pattern as this client sees it: one place in each matching channel.

Positions belong to channels, so each channel has a `SubscribedChannel` of its own, and gaps, resets
and moves between connections work as in any channel. A resume names all positions; the hub reads a
channel without one from its beginning. No I/O, no clock.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hub_client.channel import SubscribedChannel
from hub_client.messages import Item, Position

_OF_THE_HUB = "hub:"


def key_of(pattern: str) -> str:
    """Return the pattern's key, which holds a slash and so differs from every channel's name."""
    return f"/{pattern}"


class Pattern:
    """All places of one subscription; it survives every connection."""

    kind = "pattern"

    __slots__ = (
        "_expression",
        "begun",
        "fill",
        "filter",
        "key",
        "last",
        "name",
        "places",
        "position",
        "since",
        "start",
    )

    def __init__(
        self,
        pattern: str,
        *,
        since: Mapping[str, Position] | None,
        last: int | None,
        fill: bool,
        filter: Mapping[str, Any] | None,  # noqa: A002 - as the wire calls it
    ) -> None:
        self.name = pattern
        self.key = key_of(pattern)
        self.last = last
        self.fill = fill
        self.filter = filter
        self.since: Position | None = None
        self.start: Position | None = None
        self.position: Position | None = None
        """A pattern has no position of its own; its places have."""
        self.begun = since is not None
        """Whether the pattern resumes: then it asks for the missing part of each channel."""
        self._expression = _expression(pattern)
        self.places: dict[str, SubscribedChannel] = {}
        for name, position in (since or {}).items():
            self.places[name] = self._place(name, position)

    def matches(self, channel: str) -> bool:
        """Return whether the hub brings this channel for the pattern; the hub's own channels need
        their name."""
        if channel.startswith(_OF_THE_HUB) and not self.name.startswith(_OF_THE_HUB):
            return False
        return self._expression.fullmatch(channel) is not None

    def place(self, channel: str) -> SubscribedChannel:
        """Return the place in a matching channel; make it where there is none."""
        if (known := self.places.get(channel)) is None:
            known = self.places[channel] = self._place(channel, None)
        return known

    def request(self) -> dict[str, object]:
        """Return the fields of a subscribe command that asks for all that is still missing."""
        fields: dict[str, object] = {"pattern": self.name, "fill": self.fill or None}
        if self.filter is not None:
            fields["filter"] = self.filter
        since = {name: place.request().get("since") for name, place in self.places.items()}
        if self.begun:
            fields["since"] = {name: at for name, at in since.items() if at is not None}
        else:
            fields["last"] = self.last
        return fields

    def keys(self) -> Iterator[str]:
        """The keys by which a connection knows the places."""
        return (place.key for place in self.places.values())

    def all_places(self) -> Iterator[SubscribedChannel]:
        yield from tuple(self.places.values())

    def release(self, *, everything: bool = False) -> tuple[Item, ...]:
        """Release as `SubscribedChannel.release` does, for all places."""
        held = (place.release(everything=everything) for place in self.places.values())
        return tuple(item for items in held for item in items)

    @property
    def duplicates(self) -> int:
        return sum(place.duplicates for place in self.places.values())

    def _place(self, channel: str, since: Position | None) -> SubscribedChannel:
        key = f"{self.key} {channel}"
        return SubscribedChannel(channel, since=since, last=None, fill=self.fill, key=key)


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the expression: `*` matches one segment between `:` or `.`, `**` at the end all the
    rest."""
    escaped = re.escape(pattern)
    if escaped.endswith(r"\*\*"):
        escaped = escaped.removesuffix(r"\*\*") + ".+"
    return re.compile(escaped.replace(r"\*", "[^:.]+"))
