"""What a subscription wants of its channel's publications, as the core asks it.

`hub.wire.filters` has the shape. `hub.core.session.encoded.as_wanted` asks it: of a batch once for
each publication, dialect and filter, however many subscriptions share them
(`hub.core.fanout.channels.Batch`); of history once for each publication that is read to a
subscription (`hub.core.recovery.replay`). No broker knows filters: what is left out moves the
position.
"""

from typing import Protocol


class Filter(Protocol):
    """Looks at the tags of a publication. Frozen: the same condition is an equal filter, so that
    all subscriptions with it share what they are sent."""

    @property
    def text(self) -> bytes:
        """The condition as JSON."""
        ...

    @property
    def of_rows(self) -> bool:
        """Whether the peer keeps rows: what does not match is a removal then, and not left out."""
        ...

    def for_rows(self) -> "Filter":
        """The same condition, of a peer that keeps rows."""
        ...

    def matches(self, tags: bytes | None) -> bool:
        """Whether a publication with these tags is wanted (`hub.core.publication.Publication`)."""
        ...

    def __hash__(self) -> int: ...

    def __eq__(self, other: object, /) -> bool: ...
