"""What the application is asked about publications over HTTP of who holds no publisher key."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from hub.core.hooks import Asker, Hooks
from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES
from hub.errors import HubError
from hub.transports.request import Request

# Of one request's items. Guess: an eighth of what is asked at a time.
_TOGETHER = 8


async def judged_by_application(
    hooks: Hooks, request: Request, asked: PublishRequest
) -> PublishRequest:
    """What is published by the application's word; raise `HubError` where it refuses."""
    asker = Asker(request.identity, None, request.address, request.headers)
    data = await hooks.check_publish(asker, asked.channel, asked.data)
    # What takes a row away has no data.
    same = data is asked.data or asked.marks & REMOVES
    return asked if same else replace(asked, data=data)


async def judged_each(
    hooks: Hooks,
    request: Request,
    items: Sequence[PublishRequest | HubError],
    failed: Callable[[Exception], HubError],
) -> list[PublishRequest | HubError]:
    """The same of the items that are not refused yet, a few at a time: others ask it too."""

    async def one(item: PublishRequest | HubError) -> PublishRequest | HubError:
        if isinstance(item, HubError):
            return item
        try:
            return await judged_by_application(hooks, request, item)
        except Exception as error:  # noqa: BLE001 - the other items' answers must not be lost with this one
            return failed(error)

    outcomes: list[PublishRequest | HubError] = []
    for start in range(0, len(items), _TOGETHER):
        outcomes += await asyncio.gather(*map(one, items[start : start + _TOGETHER]))
    return outcomes
