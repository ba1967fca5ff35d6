"""Splits bodies of `POST /api/publish` as the hub does, without other work in between."""

from collections.abc import Generator

from hub.wire.items import PublishBody, split_in_slices


def split_items(raw: bytes, *, max_items: int) -> PublishBody:
    return ended(split_in_slices(raw, max_items=max_items))


def ended(splitting: Generator[None, None, PublishBody]) -> PublishBody:
    """Return the result of a splitting behind its last step."""
    while True:
        try:
            next(splitting)
        except StopIteration as done:
            body: PublishBody = done.value
            return body
