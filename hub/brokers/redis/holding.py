"""How much may wait for what is missing before it: bounds per channel, and for the process.

A message that finds no room is left out, and read from history with what is missing; where
there is no history it is announced as lost. Memory is bounded, not what subscribers are told.
"""

from hub.core.tally import Tally


class Room:
    """One per process, shared by the trackers of all its channels."""

    def __init__(
        self, *, channel_messages: int, channel_bytes: int, total_bytes: int, tally: Tally
    ) -> None:
        self._channel_messages = channel_messages
        self._channel_bytes = channel_bytes
        self.total_bytes = total_bytes
        self._tally = tally
        self.bytes = 0
        """What all channels hold now."""

    def take(self, size_bytes: int, *, messages: int, held_bytes: int) -> bool:
        """Take a message of a channel that holds so many messages and bytes, if there is room."""
        fits = (
            messages < self._channel_messages
            and held_bytes + size_bytes <= self._channel_bytes
            and self.bytes + size_bytes <= self.total_bytes
        )
        if fits:
            self.bytes += size_bytes
        else:
            self._tally.broker_hold_refused += 1
        return fits

    def give_back(self, size_bytes: int) -> None:
        self.bytes -= size_bytes
