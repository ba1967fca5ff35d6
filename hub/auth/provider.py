"""The keys of an identity provider: fetched, kept, and fetched again when a token names another.

A provider publishes its public keys as a JSON Web Key set (RFC 7517 section 5) and replaces them
now and then. The hub keeps the last good set and reads it again

- once at the start, and then every 5 minutes or so: a key that was taken out verifies no longer;
- when a token names a key (`kid`) that the set lacks, at most every 30 s, however many tokens do
  so and whatever they name. Those that come while it is read wait for it, all for the same one;
- after it could not be read, in 1 s, then 2 s, ... up to 30 s.

A provider that is down, slow or answers rubbish thus costs one request at a time, of bounded time
and size, and changes nothing: the last good keys stay. What a stranger's token can cause is one
request in 30 s and a place in a set of names. Worked example: keys are read at 12:00:00. At
12:00:01 a thousand tokens name the key `b`: one request, and all wait for it. The set has no `b`:
all are refused for good. At 12:00:05 a token names `c`: nobody may ask before 12:00:31, so it is
refused as one to try again in 26 s.

How a set is fetched stands in `hub.auth.fetching`, how it is read in `hub.auth.public_keys`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable

from structlog.typing import FilteringBoundLogger

from hub.auth.public_keys import MAX_KID_CHARACTERS, PublicKey, read_set
from hub.auth.waiting import Waiters
from hub.core.counters import Counters
from hub.core.ports import UndecidedError
from hub.errors import UnauthorizedError

# As long as a fetch may take, and a little.
WAIT_SECONDS = 6.0
UNKNOWN_KEY_SECONDS = 30.0
REFRESH_SECONDS = 300.0
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
# Names asked for since the last fetch; tokens with further names are refused, to be tried again.
_MAX_ASKED = 1024
# A token without `kid` may mean any key; so many are tried (60 us each, measured for P-256).
_MAX_TRIED = 8

Fetch = Callable[[], Awaitable[bytes]]
"""A function that raises `FetchError`, ends by itself, and never returns more than it may."""


class FetchError(Exception):
    """The set could not be fetched; `outcome` is the reason, as the metric counts it."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class ProviderKeys:
    """Keeps the keys of an identity provider; one per node, owned by the event loop.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        clock: Callable[[], float],
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._counters = counters
        self._log = log
        self._keys: tuple[PublicKey, ...] = ()
        self._wanted = asyncio.Event()
        """The event is set where the next fetch should not wait for its time."""
        self._waiters = Waiters()
        self._fetching = True
        """Whether a fetch is under way or about to begin; the first one is, from the start."""
        self._asked_at: float | None = None
        """The time at which a token last caused a fetch."""
        self._asked: set[str] = set()
        """Names of keys that tokens named since, and that the set lacked."""
        self._absent: frozenset[str] = frozenset()
        """Names of keys that the last good set was searched for in vain."""

    # -- what verifies asks --------------------------------------------------------------------

    def find(self, algorithm: str, kid: str | None) -> Iterable[PublicKey]:
        """Return the keys that may have signed a token of this algorithm, which names `kid` or
        none."""
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if kid is None:
            return fitting[:_MAX_TRIED]
        # One without a name may be meant by any.
        return [key for key in fitting if key.kid in {kid, None}][:_MAX_TRIED]

    def knows(self, kid: str | None) -> bool:
        """Return whether the present keys suffice to judge a token that names `kid`."""
        if kid is None:
            return bool(self._keys)
        return any(key.kid == kid for key in self._keys)

    def unknown(self, kid: str | None) -> UnauthorizedError:
        """Return the refusal of a token whose key is not here; begin a fetch where one is allowed.

        It is an `UndecidedError` where a fetch is under way.
        """
        name = "" if kid is None else kid[:MAX_KID_CHARACTERS]
        if not self._fetching and self._may_ask():
            self._asked_at = self._clock()
            self._fetching = True
            self._wanted.set()
        if self._fetching:
            if len(self._asked) < _MAX_ASKED:
                self._asked.add(name)
            return UndecidedError("the provider is being asked for the token's key", self._wait)
        message = "no key of the provider has the token's kid"
        if name in self._absent:
            return UnauthorizedError(message, refusal="token_key")
        left = UNKNOWN_KEY_SECONDS - (self._clock() - (self._asked_at or 0.0))
        return UnauthorizedError(message, holds_in_seconds=left, refusal="token_key")

    def _may_ask(self) -> bool:
        return self._asked_at is None or self._clock() - self._asked_at >= UNKNOWN_KEY_SECONDS

    async def _wait(self) -> None:
        """Wait until the fetch that is under way has ended, or for `WAIT_SECONDS`."""
        if self._fetching:
            await self._waiters.wait(WAIT_SECONDS)

    # -- keeping it ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch at once, and whenever it is time, until cancelled."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            if await self._refresh():
                retry_seconds, seconds = _FIRST_RETRY_SECONDS, REFRESH_SECONDS
            else:
                seconds = retry_seconds
                retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)
            # Nodes that start together do not ask together for ever.
            await self._sleep(seconds * random.uniform(0.8, 1.0))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def fetch_once(self) -> str | None:
        """Fetch where no task runs the provider; return why that failed."""
        self._fetching = True
        try:
            self._keys = tuple(read_set(await self._fetch()))
        except (FetchError, ValueError) as error:
            return str(error)
        finally:
            self._fetching = False
            self._asked_at = self._clock()
        return None

    async def _refresh(self) -> bool:
        """Fetch once; return whether the set is good."""
        self._wanted.clear()
        self._fetching = True
        try:
            keys = tuple(read_set(await self._fetch()))
        except FetchError as error:
            self._failed(error.outcome, str(error))
            return False
        except ValueError as error:
            self._failed("invalid", str(error))
            return False
        finally:
            self._fetching = False
        self._take(keys)
        self._waiters.let_go()
        return True

    def _take(self, keys: tuple[PublicKey, ...]) -> None:
        self._counters.token_key_fetches["fetched"] += 1
        before, self._keys = {key.kid for key in self._keys}, keys
        now = {key.kid for key in keys}
        self._absent = frozenset(name for name in self._asked if name not in now)
        self._asked.clear()
        if before != now:
            shown = sorted((kid or "without kid")[:40] for kid in now)
            self._log.info("token_keys_changed", keys=shown)

    def _failed(self, outcome: str, why: str) -> None:
        self._counters.token_key_fetches[outcome] += 1
        self._asked.clear()
        self._log.warning(
            "token_keys_not_fetched",
            outcome=outcome,
            reason=why[:200],
            keys=len(self._keys),
            message="the last good keys stay; tokens of others are refused until it succeeds",
        )
        self._waiters.let_go()
