"""Which publications were made under which idempotency key, for as long as a retry may come."""

from dataclasses import dataclass
from hashlib import blake2b

from hub.core.ports import Monotonic, PublishRequest, PublishResult
from hub.core.publication import Position
from hub.errors import ConflictError, UnavailableError

# 5 minutes of 3,000 keyed publications a second; about 300 bytes each. Forgetting one early
# could publish twice, so at the bound new keys are refused instead.
MAX_KEYS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Made:
    digest: bytes
    position: Position
    expires_at_seconds: float


class IdempotencyKeys:
    """The scope of a key is publisher, channel and key."""

    def __init__(self, *, ttl_seconds: float, clock: Monotonic, max_keys: int = MAX_KEYS) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._max_keys = max_keys
        self._made: dict[tuple[str, str, str], _Made] = {}
        """In the order they expire, because all live equally long."""

    def find(self, request: PublishRequest) -> PublishResult | None:
        """The first answer when the key was used before, None when it was not.

        Raises:
            ConflictError: it was used with other data.
            UnavailableError: no further key can be remembered now.
        """
        if request.idempotency_key is None:
            return None
        self._expire()
        made = self._made.get(_scope(request, request.idempotency_key))
        if made is None:
            if len(self._made) >= self._max_keys:
                raise UnavailableError(f"{self._max_keys:,} idempotency keys are held")
            return None
        if made.digest != _digest(request):
            raise ConflictError(
                f"idempotency key {request.idempotency_key!r} was used with other data"
            )
        return PublishResult(made.position, duplicate=True)

    def remember(self, request: PublishRequest, position: Position) -> None:
        """Keep the answer of a publication that was made under a key."""
        if request.idempotency_key is not None:
            expires = self._clock() + self._ttl_seconds
            scope = _scope(request, request.idempotency_key)
            self._made[scope] = _Made(_digest(request), position, expires)

    def _expire(self) -> None:
        now = self._clock()
        while self._made:
            scope = next(iter(self._made))
            if self._made[scope].expires_at_seconds > now:
                return
            del self._made[scope]


def _scope(request: PublishRequest, key: str) -> tuple[str, str, str]:
    return request.publisher, request.channel, key


def _digest(request: PublishRequest) -> bytes:
    return blake2b(request.data + b"\0" + (request.key or "").encode(), digest_size=16).digest()
