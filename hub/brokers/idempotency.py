"""Idempotency keys: the answer of each publication under one, for as long as a retry may come.

A key is remembered for its time, or until its publisher's share is used: then the publisher's
oldest goes. No publisher is refused for it, and none pushes out the keys of one that has fewer.
A key takes the same memory however long it is.
"""

import struct
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice

from hub.brokers.rounds import Rounds
from hub.core.ports import Monotonic, PublishRequest, PublishResult
from hub.core.publication import Position
from hub.errors import ConflictError

# 5 minutes of 3,300 keyed publications a second; some 250 bytes each.
MAX_KEYS = 1_000_000
_DIGEST_BYTES = 16
# A digest of the content, when it is forgotten, the offset; the epoch follows.
_MADE = struct.Struct("<qdQ")
# Publishers looked at in one call of `sweep`. A guess.
_SWEEP_PUBLISHERS = 100
# Old keys that go in one step: 1 us each. A million may be over at once, behind a pause.
EXPIRED_AT_ONCE = 2000
_COMPARED = 16


class _Keys:
    """The keys of one publisher."""

    __slots__ = ("_again", "_order", "made", "publisher", "rank")

    def __init__(self, publisher: str) -> None:
        self.publisher = publisher
        self.made: dict[bytes, bytes] = {}
        """Answers by the digest of channel and key."""
        self._order: deque[bytes] = deque()
        """The same digests, the oldest first: all live equally long. A dictionary that loses its
        first entry again and again passes over all its holes to find the next."""
        self._again: dict[bytes, int] = {}
        """The number of stale places that a digest has in the order, before its valid one."""
        self.rank = 0
        """The number of binary digits of the number of keys."""

    def put(self, scope: bytes, made: bytes) -> bool:
        """Remember an answer, now the youngest; return whether there was none of that digest."""
        new = scope not in self.made
        if not new:
            self._again[scope] = self._again.get(scope, 0) + 1
        self.made[scope] = made
        self._order.append(scope)
        return new

    def oldest(self) -> bytes | None:
        """Return the digest of the oldest answer; None without any."""
        order = self._order
        while order:
            scope = order[0]
            if not self._again or (again := self._again.pop(scope, 0)) == 0:
                return scope
            if again > 1:
                self._again[scope] = again - 1
            order.popleft()
        return None

    def drop(self) -> None:
        """Forget the digest that `oldest` has returned."""
        del self.made[self._order.popleft()]


class IdempotencyKeys:
    """The scope of a key is publisher, channel and key.

    Above `max_keys` the publisher that has most of them gives way, the one that publishes before
    others with as many. The publisher with most keys is looked for among `_COMPARED` of those with
    the most binary digits in their number, so that it costs the same however many publishers there
    are.
    """

    def __init__(
        self,
        *,
        ttl_seconds: float,
        clock: Monotonic,
        max_keys: int = MAX_KEYS,
        content: Callable[[PublishRequest], int] | None = None,
    ) -> None:
        """`content` tells two contents apart: within this process, when left out."""
        self._content = content or brief_content
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._max_keys = max_keys
        self._by_publisher: dict[str, _Keys] = {}
        self._by_rank: list[dict[_Keys, None]] = [
            {} for _ in range((max_keys + 1).bit_length() + 1)
        ]
        self._count = 0
        self._rounds: Rounds[_Keys] = Rounds(
            lambda keys: self._by_publisher.get(keys.publisher) is keys
        )
        self._asked: tuple[PublishRequest, bytes] | None = None
        """The request of the last `find`, and its scope: `remember` follows."""

    def __len__(self) -> int:
        return self._count

    def find(self, request: PublishRequest, *, epoch: str | None = None) -> PublishResult | None:
        """Return the first answer when the key was used before, else None.

        Where the channel's `epoch` is given, an answer of another epoch does not count: no session
        reads that one any more, and a retry whose message reached nobody has to be published.
        Raises `ConflictError` where the key was used with other data.
        """
        if request.idempotency_key is None:
            return None
        keys = self._by_publisher.get(request.publisher)
        if keys is None:
            return None
        self._expire(keys, EXPIRED_AT_ONCE)
        scope = scope_of(request.channel, request.idempotency_key)
        self._asked = request, scope
        made = keys.made.get(scope)
        if made is None:
            return None
        if epoch is not None and made[_MADE.size :] != epoch.encode():
            return None
        content, expires, offset = _MADE.unpack_from(made)
        if expires <= self._clock():
            return None
        if content != self._content(request):
            raise ConflictError(
                f"idempotency key {request.idempotency_key!r} was used with other data"
            )
        return PublishResult(Position(made[_MADE.size :].decode(), offset), duplicate=True)

    def remember(self, request: PublishRequest, position: Position) -> None:
        """Keep the answer of a publication that was made under a key."""
        if request.idempotency_key is None:
            return
        expires = self._clock() + self._ttl_seconds
        asked, self._asked = self._asked, None
        if asked is not None and asked[0] is request:
            scope = asked[1]
        else:
            scope = scope_of(request.channel, request.idempotency_key)
        self._put(request.publisher, scope, self._content(request), expires, position)

    def restore(
        self, publisher: str, scope: bytes, content: int, seconds_left: float, position: Position
    ) -> None:
        """Restore an answer of an earlier run; the oldest come first.

        Args:
            content: the result of `lasting_content`.
        """
        expires = self._clock() + min(seconds_left, self._ttl_seconds)
        self._put(publisher, scope, content, expires, position)

    def _put(
        self, publisher: str, scope: bytes, content: int, expires: float, position: Position
    ) -> None:
        keys = self._by_publisher.get(publisher)
        if keys is None:
            keys = self._by_publisher[publisher] = _Keys(publisher)
            self._rounds.add(keys)
        made = _MADE.pack(content, expires, position.offset) + position.epoch.encode()
        # A key of an epoch that is over is answered anew, and then is among the youngest.
        if keys.put(scope, made):
            self._count += 1
        if len(keys.made) >> keys.rank:
            self._rank(keys)
        if self._count > self._max_keys:
            self._make_room(keys)

    def has(self, publisher: str, scope: bytes, position: Position) -> bool:
        """Return whether this answer is remembered still."""
        keys = self._by_publisher.get(publisher)
        made = None if keys is None else keys.made.get(scope)
        if made is None or _MADE.unpack_from(made)[2] != position.offset:
            return False
        return made[_MADE.size :] == position.epoch.encode()

    def sweep(self) -> None:
        """Forget old keys, of some publishers in each call; call it regularly."""
        left = EXPIRED_AT_ONCE
        for keys in self._rounds.some(_SWEEP_PUBLISHERS):
            left -= self._expire(keys, left)

    def _expire(self, keys: _Keys, most: int) -> int:
        """Forget old keys of a publisher; return how many, `most` at most."""
        now = self._clock()
        for dropped in range(most):
            scope = keys.oldest()
            if scope is None or _MADE.unpack_from(keys.made[scope])[1] > now:
                return dropped
            self._drop(keys)
        return most

    def _make_room(self, keys: _Keys) -> None:
        """Drop one key: of `keys` itself where no publisher has more, else of the one with most."""
        highest = next(rank for rank in reversed(self._by_rank) if rank)
        most = max(islice(highest, _COMPARED), key=lambda each: len(each.made))
        if len(keys.made) >= len(most.made):
            most = keys
        if most.oldest() is not None:
            self._drop(most)

    def _drop(self, keys: _Keys) -> None:
        """Forget the digest that its `oldest` has returned."""
        keys.drop()
        self._count -= 1
        if not len(keys.made) >> max(keys.rank - 1, 0):
            self._rank(keys)

    def _rank(self, keys: _Keys) -> None:
        """File a publisher by the number of its keys; without any, forget it."""
        self._by_rank[keys.rank].pop(keys, None)
        keys.rank = len(keys.made).bit_length()
        if keys.made:
            self._by_rank[keys.rank][keys] = None
        else:
            del self._by_publisher[keys.publisher]


def scope_of(channel: str, key: str) -> bytes:
    return blake2b(f"{channel}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest()


def brief_content(request: PublishRequest) -> int:
    """Return 64 keyed bits: a publisher that makes two contents share them fools only itself."""
    beside = said_beside(request)
    if beside:
        return hash((request.data, request.key, beside))
    return hash(request.data if request.key is None else (request.data, request.key))


def lasting_content(request: PublishRequest) -> int:
    """Return 64 bits of a digest, signed, the same in every process."""
    digest = blake2b(request.data, digest_size=8, person=b"" if request.key is None else b"key")
    if request.key is not None:
        digest.update(b"\0" + request.key.encode())
    digest.update(said_beside(request))
    return int.from_bytes(digest.digest(), "little", signed=True)


def said_beside(request: PublishRequest) -> bytes:
    """Return marks, tags and keep time as bytes; empty where the publication has none."""
    if not request.marks and request.tags is None and request.keep_ms is None:
        return b""
    return b"\0%d %a %b" % (request.marks, request.keep_ms, request.tags or b"")
