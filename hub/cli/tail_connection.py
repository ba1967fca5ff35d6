"""One connection looked at again and again: what has changed since the look before."""

import asyncio
import time
from collections.abc import Iterator
from typing import Protocol

from hub.cli.ending import say
from hub.cli.operator import Json, Operator, OperatorError
from hub.cli.tail_lines import Observed

# As many as the API gives: a connection that ended just now is among the last.
_CLOSED = 1000


class Follower(Protocol):
    """Who prints; `hub.cli.tail.Followed`."""

    def follow(self, channels: tuple[str, ...]) -> None: ...

    async def tell(self, observed: Observed) -> None: ...


async def watch(operator: Operator, connection: str, every: float, follower: Follower) -> None:
    """Have its channels followed and tell what happens to it, until it has ended.

    Raises:
        OperatorError: it is not there at first, or the hub does not let this operator look.
    """
    seen = await operator.ask("connections", connection)
    say(
        f"what the channels of {connection} carry, on a connection of this command's own; "
        "lines with ! are what its outbox does"
    )
    before: Json = {**seen, "subscriptions": []}
    while seen:
        for observed in changes(before, seen):
            await follower.tell(observed)
        follower.follow(tuple(row["channel"] for row in seen["subscriptions"]))
        await asyncio.sleep(every)
        before, seen = seen, await _look(operator, connection, seen)
    await follower.tell(await _ending(operator, connection))


async def _look(operator: Operator, connection: str, before: Json) -> Json:
    """The record now; {} when it has ended; as before where the hub does not say."""
    try:
        return await operator.ask("connections", connection)
    except OperatorError as error:
        if error.code == "not_found":
            return {}
        say(f"cannot look at {connection}: {error}")
        return before


async def _ending(operator: Operator, connection: str) -> Observed:
    found: Observed = {}
    try:
        rows = (await operator.ask("closed", limit=_CLOSED))["closed"]
        found = next((row for row in rows if row["connection"] == connection), {})
    except OperatorError as error:
        say(f"cannot ask how it ended: {error}")
    reason = found.get("reason") or "how is not known"
    return _observed(connection, "ended", code=found.get("code"), reason=reason)


def changes(before: Json, now: Json) -> Iterator[Observed]:
    """What differs between two records of one connection."""
    connection = now["connection"]
    old = {row["channel"]: row for row in before["subscriptions"]}
    new = {row["channel"]: row for row in now["subscriptions"]}
    for channel in old.keys() - new.keys():
        yield _observed(connection, "unsubscribed", channel=channel)
    for channel, row in new.items():
        was = old.get(channel)
        # Whoever left and came back within one look counts from 0 again.
        dropped = row["dropped"] - (was["dropped"] if was else row["dropped"])
        if was and dropped > 0:
            after = was["position"]
            yield _observed(connection, "dropped", channel=channel, count=dropped, after=after)
        if was is None or was["state"] != row["state"]:
            yield _subscription(connection, row)


def _subscription(connection: str, row: Json) -> Observed:
    return _observed(
        connection,
        "subscription",
        channel=row["channel"],
        state=row["state"],
        position=row["position"],
        waiting=row["outbox_messages"],
        dropped=row["dropped"],
    )


def _observed(connection: str, what: str, **fields: object) -> Observed:
    common = {"op": "observed", "connection": connection, "at_ms": int(time.time() * 1000)}
    return {**common, "what": what, **fields}
