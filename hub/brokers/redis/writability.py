"""Whether a Redis takes what is written, asked again and again where nobody publishes either.

A Redis whose memory is full (OOM), that cannot save what it has (MISCONF) or lacks the replicas
it should have (NOREPLICAS) answers everything else. Publishers get 503, and the node stays
*ready*: all nodes share that Redis, so sending subscribers away from one, or from all, would
help nobody, and would cost those the sessions that go on reading. A Redis that cannot be heard is
another matter (`canary`): another node may hear it. So it is said where operators look: in the
node's record, the dashboard and `hub nodes`, as a metric with an alert, and in the log.
"""

import asyncio

from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.commands import Commands
from hub.brokers.redis.failures import REFUSE_WRITING, CallError, RefusedError
from hub.brokers.redis.options import RedisOptions


class Writability:
    """One per server."""

    def __init__(
        self, *, commands: Commands, options: RedisOptions, log: FilteringBoundLogger
    ) -> None:
        self._commands = commands
        self._options = options
        self._log = log
        self.refusal = ""
        """Why nothing is taken, in the words of Redis; empty where it is, or none can be asked."""

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            self._set(await self._ask())
            await asyncio.sleep(self._options.canary_seconds)

    async def _ask(self) -> str:
        try:
            await self._commands.run_function("writable", (), (self._options.keys.stem("x"),))
        except RefusedError as error:
            return str(error) if error.code in REFUSE_WRITING else ""
        except CallError:
            return ""
        return ""

    def _set(self, refusal: str) -> None:
        if bool(refusal) != bool(self.refusal):
            if refusal:
                self._log.warning("redis_takes_no_publications", reason=refusal)
            else:
                self._log.info("redis_takes_publications_again")
        self.refusal = refusal
