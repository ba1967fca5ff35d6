"""Lines to publications."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.ingest.lines import MAX_LINE_BYTES, Line
from hub_client import Outgoing, Published, PublishError

Outcome = Published | PublishError


class Publishes(Protocol):
    """The part of `hub_client.Publisher` that is used here: it also tries again."""

    async def publish_many(self, items: Sequence[Outgoing], /) -> Sequence[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where lines go, and what they become."""

    channel: str
    to_payload: Callable[[bytes], bytes]
    """Makes JSON of a line; raises `ValueError` with the reason where it may not."""
    message_key: str | None = None


class Sink:
    """Publishes lines; those of one call travel in one request."""

    def __init__(self, publisher: Publishes, target: Target) -> None:
        self._publisher = publisher
        self._target = target

    async def publish(self, lines: Sequence[Line], id_: str) -> list[Outcome]:
        """One outcome for each line; nothing is raised.

        `id_` and a line's first byte make its idempotency key.
        """
        items = [self._outgoing(line, id_) for line in lines]
        sent = [item for item in items if isinstance(item, Outgoing)]
        answers: Iterator[Outcome] = iter(await self._publisher.publish_many(sent))
        return [next(answers) if isinstance(item, Outgoing) else item for item in items]

    def _outgoing(self, line: Line, id_: str) -> Outgoing | PublishError:
        if line.data is None:
            return PublishError("too_large", f"line is over {MAX_LINE_BYTES:,} bytes")
        try:
            payload = self._target.to_payload(line.data)
        except ValueError as error:
            return PublishError("bad_request", str(error))
        key = f"{id_}:{line.start}"
        return Outgoing(self._target.channel, payload, self._target.message_key, key)
