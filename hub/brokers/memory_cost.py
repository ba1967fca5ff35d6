"""The memory that one publication takes, by which budgets of history and of rows count."""

from hub.core.publication import Publication

# The bytes of a publication without key, sender or trace beside its data: the object (104), the
# head of its data (33), offset, time, and when it was taken (84), its places in three lists (24),
# and up to 30 that lists hold in reserve. Measured with tracemalloc on Python 3.11
# (tests/brokers/test_memory_history.py does it again).
OVERHEAD_BYTES = 270
# The bytes of a short string beside its characters.
_STRING_BYTES = 56


def cost_bytes(publication: Publication) -> int:
    """Return the bytes of `publication` with its object; the channel's name is its log's own."""
    size = len(publication.data) + OVERHEAD_BYTES
    if publication.key is not None:
        size += len(publication.key) * 4 + _STRING_BYTES
    if publication.sender is not None:
        size += len(publication.sender) * 4 + _STRING_BYTES
    if publication.skip_connection is not None:
        size += len(publication.skip_connection) + _STRING_BYTES
    if publication.trace is not None:
        size += len(publication.trace) + _STRING_BYTES
    if publication.tags is not None:
        size += len(publication.tags) + _STRING_BYTES
    return size
