"""The commands of a client: the fields of each, and the reading of its reply.

Each call raises as `CommandSender` does: a `CommandError` where the hub refuses. No call is
retried here.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from hub_client import frames
from hub_client.errors import HubClientError
from hub_client.messages import HistoryPage, Member, Moment, Position, Published
from hub_client.publishing import Outgoing


class CommandSender(Protocol):
    """A function that sends a command and returns its reply's `ok`."""

    async def __call__(self, op: str, **fields: object) -> msgspec.Raw: ...


async def publish(
    request: CommandSender, item: Outgoing, *, echo: bool, idempotency_key: str | None
) -> Published:
    ok = await request(
        "publish",
        **item.fields(),
        echo=None if echo else False,
        idempotency_key=idempotency_key,
    )
    return frames.published(ok)


async def publish_each(
    request: CommandSender, items: Sequence[Outgoing], *, echo: bool, idempotency_key: str | None
) -> tuple[Published | HubClientError, ...]:
    """Publish all items at once; return their outcomes in the same order."""
    told = await asyncio.gather(
        *(publish(request, item, echo=echo, idempotency_key=idempotency_key) for item in items),
        return_exceptions=True,
    )
    return tuple(_outcome(each) for each in told)


def _outcome(told: Published | BaseException) -> Published | HubClientError:
    if isinstance(told, BaseException) and not isinstance(told, HubClientError):
        raise told
    return told


async def history(
    request: CommandSender,
    channel: str,
    *,
    since: Position | str | None,
    limit: int | None,
    from_time: Moment | None,
    reverse: bool,
) -> HistoryPage:
    ok = await request(
        "history",
        channel=channel,
        since=None if since is None else str(Position.of(since)),
        limit=limit,
        from_time=frames.moment(from_time),
        reverse=reverse or None,
    )
    return frames.history_page(ok)


async def members(request: CommandSender, channel: str) -> tuple[Member, ...]:
    """Return all members, page by page; a member that moved between two pages stands there once."""
    after = None
    found: dict[str, Member] = {}
    while True:
        ok = await request("presence", channel=channel, after=after)
        page, after = frames.members(ok)
        found |= {member.id: member for member in page}
        if after is None:
            return tuple(found.values())


async def member_count(request: CommandSender, channel: str) -> int:
    return frames.member_count(await request("presence", channel=channel, count=True))


async def presence_update(request: CommandSender, channel: str, data: object) -> None:
    raw = frames.raw_json(frames.encode(data))
    await request("presence_update", channel=channel, data=raw)


async def ping(request: CommandSender) -> float:
    """Return the seconds to the hub and back."""
    started = time.perf_counter()
    await request("ping")
    return time.perf_counter() - started
