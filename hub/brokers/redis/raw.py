"""Unsequenced publications: what any Redis client sends by plain PUBLISH to `hub:raw:<channel>`.

They have no offset: nothing numbers them, keeps them or tells that one was lost on its way
here. A node listens to the raw name only where the namespace allows it and only while it has
sessions in the channel.
"""

from collections.abc import Callable

from hub.brokers.redis.listeners import Listening
from hub.brokers.redis.surroundings import Surroundings
from hub.core.publication import Publication
from hub.core.pushes import Gap, GapReason
from hub.errors import HubError
from hub.wire.payload import check_payload


class RawChannels:
    """One per server.

    Args:
        epoch: of a channel that is open; None where nobody waits for what comes in it.
    """

    def __init__(
        self, around: Surroundings, *, subscriber: Listening, epoch: Callable[[str], str | None]
    ) -> None:
        self._around = around
        self._subscriber = subscriber
        self._epoch = epoch
        self._channels: dict[bytes, str] = {}
        """By pub/sub channel."""

    def listen(self, channel: str) -> None:
        """Begin, where the namespace allows it; before the channel's own name is added."""
        if self._around.namespaces.options(channel).allow_raw:
            name = self._around.options.keys.raw(channel).encode()
            self._channels[name] = channel
            self._subscriber.add(name)

    def leave(self, channel: str) -> None:
        name = self._around.options.keys.raw(channel).encode()
        if self._channels.pop(name, None) is not None:
            self._subscriber.remove(name)

    def receive(self, name: bytes, raw: bytes) -> None:
        """Deliver what came in the pub/sub channel `name`, or announce that it cannot be."""
        if (channel := self._channels.get(name)) is None:
            return
        self._around.tally.broker_raw += 1
        if (epoch := self._epoch(channel)) is None:
            return
        try:
            data = check_payload(raw, limit=self._around.options.max_message_bytes)
        except HubError:
            self._around.tally.broker_raw_refused += 1
            self._around.downstream.lost(Gap(channel, epoch, 0, 0, GapReason.INVALID, 1))
            return
        time_ms = int(self._around.wall_clock() * 1000)
        self._around.downstream.deliver(Publication(channel, 0, data, time_ms))
