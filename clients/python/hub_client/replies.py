"""Commands that wait for their reply."""

import asyncio

from hub_client.errors import CommandTimeoutError
from hub_client.frames import Frame


class Replies:
    """Matches replies to those who wait for them."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Frame]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, command_id: int) -> bool:
        return command_id in self._waiting

    def expect(self, command_id: int) -> "asyncio.Future[Frame]":
        """To be awaited with a time-out, and given up with `forget`."""
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[command_id] = future
        return future

    def forget(self, command_id: int) -> None:
        self._waiting.pop(command_id, None)

    def answer(self, command_id: int, frame: Frame) -> None:
        """Hand over a reply; one that nobody waits for any more is dropped."""
        future = self._waiting.pop(command_id, None)
        if future is None or future.done():
            return
        if frame.error is not None:
            future.set_exception(frame.error.public())
        else:
            future.set_result(frame)

    def fail(self, error: Exception) -> None:
        """No reply will come any more."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)


def timed_out(op: str, hub: str, seconds: float) -> CommandTimeoutError:
    text = f"no reply from {hub} to {op} in {seconds:g} seconds; its outcome is unknown"
    return CommandTimeoutError(text)
