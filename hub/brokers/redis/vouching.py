"""Whether a channel that came from another server of a cluster came in order.

Keys that MIGRATE brings are all that their server had, if it still counts as it did when they
were counted: it has not been restarted, and nobody took over from it. The server that has them
now cannot know that; whoever can reach the other one asks it.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hub.brokers.redis.failures import CONNECTION_ERRORS
from hub.brokers.redis.inquiry import Inquiry
from hub.brokers.redis.server import Server

# One that is frozen says nothing; who moved keys lives and answers at once.
_SECONDS = 1.0
_NO_FORMER_NAME = re.compile("0+")


@dataclass(frozen=True, slots=True)
class Stray:
    """What a server says of a channel that others counted.

    Args:
        history: the name of the replication history that it was counted in ...
        run: ... by the server process of this name.
        address: who has it now.
        former: whose it was before, as far as this node knows.
    """

    history: str
    run: str
    address: str
    former: str


class Vouching:
    """One per cluster.

    Args:
        members: the servers of the cluster, by address.
    """

    def __init__(self, *, inquiry: Inquiry, members: Callable[[], Mapping[str, Server]]) -> None:
        self._inquiry = inquiry
        self._members = members
        self._asked: dict[Stray, asyncio.Task[bool]] = {}

    async def came_in_order(self, stray: Stray) -> bool:
        """Ask all members; those who wait for the same answer at the same time share it."""
        task = self._asked.get(stray)
        if task is None:
            task = self._asked[stray] = asyncio.create_task(self._ask(stray))
            task.add_done_callback(lambda _: self._asked.pop(stray, None))
        return await asyncio.shield(task)

    async def _ask(self, stray: Stray) -> bool:
        questions = (("INFO", "server"), ("INFO", "replication"))
        members = self._members()
        tasks = [
            asyncio.create_task(self._one(address, server, stray, questions))
            for address, server in members.items()
        ]
        try:
            async with asyncio.timeout(_SECONDS):
                for each in asyncio.as_completed(tasks):
                    if await each:
                        return True
        except TimeoutError:
            return False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return False

    async def _one(
        self, address: str, server: Server, stray: Stray, questions: Sequence[Sequence[str]]
    ) -> bool:
        try:
            told = await self._inquiry.ask(server, *questions)
        except CONNECTION_ERRORS:
            return False
        return vouches(stray, address, _fields(told))


def _fields(told: Sequence[object]) -> Mapping[str, str]:
    text = b"\n".join(part for part in told if isinstance(part, bytes)).decode(errors="replace")
    lines = (line.strip().partition(":") for line in text.splitlines())
    return {name: value for name, _, value in lines}


def vouches(stray: Stray, address: str, info: Mapping[str, str]) -> bool:
    """Whether the server at `address` counted the channel, and nothing can be missing since."""
    same_run = info.get("run_id") == stray.run
    if info.get("role") == "master":
        # Redis renames the history of a server that goes on, see lines.lua.
        only_renamed = same_run and _NO_FORMER_NAME.fullmatch(info.get("master_replid2", ""))
        return info.get("master_replid") == stray.history or bool(only_renamed)
    # One that gave its last slot away becomes a replica of who got it, at once, and forgets the
    # name. Nobody else had the channel in between: this node knows who had it before.
    master = f"{info.get('master_host')}:{info.get('master_port')}"
    return same_run and master == stray.address and address == stray.former
