"""Which subscriptions a client has, and for which of them a channel is.

One by name for a channel, and each one by a pattern that matches: what a connection brings of the
channel is for all of them, and each has a place of its own in it.
"""

from collections.abc import Iterator

from hub_client.channel import Channel
from hub_client.feed import Feed
from hub_client.pattern import Pattern, key_of


class Feeds:
    """One per client."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        """By the name of a channel, or the key of a pattern."""
        self._patterns: dict[str, tuple[Feed, Pattern]] = {}
        """Of these, the ones with a pattern."""

    def __iter__(self) -> Iterator[Feed]:
        return iter(tuple(self._feeds.values()))

    def get(self, key: str) -> Feed | None:
        return self._feeds.get(key)

    def has(self, feed: Feed) -> bool:
        """Whether it is still wanted."""
        return self._feeds.get(feed.channel.key) is feed

    def add(self, feed: Feed) -> None:
        self._feeds[feed.channel.key] = feed
        if isinstance(feed.channel, Pattern):
            self._patterns[feed.channel.key] = (feed, feed.channel)

    def remove(self, feed: Feed) -> None:
        del self._feeds[feed.channel.key]
        self._patterns.pop(feed.channel.key, None)

    def in_order(self) -> Iterator[Feed]:
        """As they are asked for: patterns before what they match.

        Who resumes through a pattern is then not passed by what is subscribed to by name.
        """
        return iter(sorted(self, key=lambda feed: isinstance(feed.channel, Channel)))

    def of_urls(self) -> Iterator[Channel]:
        """Those that may stand in a URL: patterns come by command, and so what they match."""
        for feed in self:
            channel = feed.channel
            if isinstance(channel, Channel) and not any(
                pattern.matches(channel.name) for _, pattern in self._patterns.values()
            ):
                yield channel

    def by_name(self, name: str) -> tuple[Feed, Channel] | None:
        feed = self._feeds.get(name)
        if feed is not None and isinstance(feed.channel, Channel):
            return feed, feed.channel
        return None

    def by_pattern(self, pattern: str) -> tuple[Feed, Pattern] | None:
        return self._patterns.get(key_of(pattern))

    def places(self, name: str) -> Iterator[tuple[Feed, Channel]]:
        """Who has a place in this channel."""
        if (known := self.by_name(name)) is not None:
            yield known
        for feed, pattern in self._patterns.values():
            if (place := pattern.places.get(name)) is not None:
                yield feed, place

    def wanting(self, name: str) -> Iterator[tuple[Feed, Channel]]:
        """Who a start of this channel is for: a pattern that has begun gets a place in it."""
        for _, pattern in self._patterns.values():
            if pattern.begun and pattern.matches(name):
                pattern.place(name)
        return self.places(name)
