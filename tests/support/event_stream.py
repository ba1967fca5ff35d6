"""The blocks of a stream of server-sent events, as they stand there.

What an id means is its reader's: by the standard it counts also without data, and some parsers
forget it then. See https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.
"""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass


@dataclass
class Block:
    """A block of the stream: the lines between two empty ones."""

    id: str | None = None
    event: str = ""
    data: str = ""
    retry_ms: int | None = None


async def blocks(lines: AsyncIterable[str]) -> AsyncGenerator[Block]:
    """Yields the blocks of a stream; one that is cut before its empty line never
    comes, as in the standard."""
    block = Block()
    async for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield block
            block = Block()
        elif field == "id":
            block.id = value
        elif field == "event":
            block.event = value
        elif field == "data":
            block.data = f"{block.data}\n{value}" if block.data else value
        elif field == "retry" and value.isdigit():
            block.retry_ms = int(value)
