"""A hub whose broker takes 10 ms for a publication, as a Redis in another region does."""

import asyncio
import os
import sys

from hub.brokers.memory import MemoryBroker
from hub.core.ports import PublishRequest, PublishResult
from hub.main import run
from hub.settings import load_settings

PUBLISH_SECONDS = 0.01


_publish = MemoryBroker.publish


async def _publish_slowly(self: MemoryBroker, request: PublishRequest) -> PublishResult:
    await asyncio.sleep(PUBLISH_SECONDS)
    return await _publish(self, request)


if __name__ == "__main__":
    setattr(MemoryBroker, "publish", _publish_slowly)  # noqa: B010 - a broker far away
    MemoryBroker.answers_at_once = False
    sys.exit(run(load_settings(config_file=None, flags={}, environ=os.environ)))
