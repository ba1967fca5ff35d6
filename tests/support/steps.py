"""Work that is done in steps, done to its end."""

from collections.abc import Generator


def inflated(found: bytes | Generator[None, None, bytes]) -> bytes:
    """Return a body that may still have to be inflated."""
    if isinstance(found, bytes):
        return found
    while True:
        try:
            next(found)
        except StopIteration as done:
            return bytes(done.value)
