"""What a subscription may ask for, said once for the overloads of `subscribe`.

What each option does is described at `HubClient.subscribe`.
"""

from typing import TypedDict

from hub_client.messages import Filter, Position, Positions


class _Options(TypedDict, total=False):
    last: int | None
    fill: bool
    filter: Filter | None


class ChannelOptions(_Options, total=False):
    """Of a subscription to one channel."""

    since: Position | str | None
    presence_data: object
    every_ms: int | None
    joined: bool


class PatternOptions(_Options, total=False):
    """Of a subscription by a pattern."""

    since: Positions | None
