"""The subscriptions of a client, and those among them that a channel belongs to.

A channel belongs to at most one subscription by name, and to each subscription by a matching
pattern. A push of the channel goes to all of them, and each has a place of its own in the channel.
"""

from collections.abc import Iterator

from hub_client.channel import SubscribedChannel
from hub_client.feed import Feed
from hub_client.pattern import Pattern, key_of


class Feeds:
    """The feeds of one client."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        """Feeds by a channel's name or a pattern's key."""
        self._patterns: dict[str, tuple[Feed, Pattern]] = {}
        """The feeds with a pattern, by its key."""

    def __iter__(self) -> Iterator[Feed]:
        return iter(tuple(self._feeds.values()))

    def get(self, key: str) -> Feed | None:
        return self._feeds.get(key)

    def has(self, feed: Feed) -> bool:
        """Return whether the feed is still wanted."""
        return self._feeds.get(feed.channel.key) is feed

    def add(self, feed: Feed) -> None:
        self._feeds[feed.channel.key] = feed
        if isinstance(feed.channel, Pattern):
            self._patterns[feed.channel.key] = (feed, feed.channel)

    def remove(self, feed: Feed) -> None:
        del self._feeds[feed.channel.key]
        self._patterns.pop(feed.channel.key, None)

    def in_order(self) -> Iterator[Feed]:
        """Yield the feeds in the order of their subscribe commands: patterns before channels.

        A subscription by name then cannot overtake a pattern that resumes.
        """
        return iter(sorted(self, key=lambda feed: isinstance(feed.channel, SubscribedChannel)))

    def of_urls(self) -> Iterator[SubscribedChannel]:
        """Yield the channels that a URL may hold; patterns, and the channels that they match, need
        commands."""
        for feed in self:
            channel = feed.channel
            if isinstance(channel, SubscribedChannel) and not any(
                pattern.matches(channel.name) for _, pattern in self._patterns.values()
            ):
                yield channel

    def by_name(self, name: str) -> tuple[Feed, SubscribedChannel] | None:
        feed = self._feeds.get(name)
        if feed is not None and isinstance(feed.channel, SubscribedChannel):
            return feed, feed.channel
        return None

    def by_pattern(self, pattern: str) -> tuple[Feed, Pattern] | None:
        return self._patterns.get(key_of(pattern))

    def places(self, name: str) -> Iterator[tuple[Feed, SubscribedChannel]]:
        """Yield each feed that has a place in this channel."""
        if (known := self.by_name(name)) is not None:
            yield known
        for feed, pattern in self._patterns.values():
            if (place := pattern.places.get(name)) is not None:
                yield feed, place

    def wanting(self, name: str) -> Iterator[tuple[Feed, SubscribedChannel]]:
        """Yield each feed that a start of this channel concerns; a pattern that has begun gets a
        place in it."""
        for _, pattern in self._patterns.values():
            if pattern.begun and pattern.matches(name):
                pattern.place(name)
        return self.places(name)
