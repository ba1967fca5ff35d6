"""One subscription by a pattern as this client sees it: a place in each channel that matches.

Positions belong to channels, so each has a `Channel` of its own, and gaps, resets and moving from
one connection to the next are as in any channel. A resume names all of them; what it does not name
the hub reads from the beginning. No I/O, no clock.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hub_client.channel import Channel
from hub_client.messages import Item, Position

_OF_THE_HUB = "hub:"


def key_of(pattern: str) -> str:
    """Tells a pattern from the channels, whose names have no slash."""
    return f"/{pattern}"


class Pattern:
    """All places of one subscription; survives every connection."""

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
        """A pattern has none of its own: they are those of its places."""
        self.begun = since is not None
        """Whether it resumes: then it asks for what it has not of each channel."""
        self._expression = _expression(pattern)
        self.places: dict[str, Channel] = {}
        for name, position in (since or {}).items():
            self.places[name] = self._place(name, position)

    def matches(self, channel: str) -> bool:
        """Whether the hub brings this channel for it; channels of the hub itself are named."""
        if channel.startswith(_OF_THE_HUB) and not self.name.startswith(_OF_THE_HUB):
            return False
        return self._expression.fullmatch(channel) is not None

    def place(self, channel: str) -> Channel:
        """Its place in a channel that matches."""
        if (known := self.places.get(channel)) is None:
            known = self.places[channel] = self._place(channel, None)
        return known

    def request(self) -> dict[str, object]:
        """The fields of a subscribe command that asks for what is still missing."""
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
        """By which a connection knows its places."""
        return (place.key for place in self.places.values())

    def all_places(self) -> Iterator[Channel]:
        yield from tuple(self.places.values())

    def release(self, *, everything: bool = False) -> tuple[Item, ...]:
        """As of a channel, of all of them."""
        held = (place.release(everything=everything) for place in self.places.values())
        return tuple(item for items in held for item in items)

    @property
    def duplicates(self) -> int:
        return sum(place.duplicates for place in self.places.values())

    def _place(self, channel: str, since: Position | None) -> Channel:
        key = f"{self.key} {channel}"
        return Channel(channel, since=since, last=None, fill=self.fill, key=key)


def _expression(pattern: str) -> re.Pattern[str]:
    """`*` is one segment between `:` or `.`, `**` at the end all the rest."""
    escaped = re.escape(pattern)
    if escaped.endswith(r"\*\*"):
        escaped = escaped.removesuffix(r"\*\*") + ".+"
    return re.compile(escaped.replace(r"\*", "[^:.]+"))
