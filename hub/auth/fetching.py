"""Fetch one document from an identity provider, bounded in time and size.

Redirections are not followed, because only the address that the operator names is trusted. The
environment's proxies and certificates are those that the clients use (`hub_client.route`).
"""

import asyncio
from typing import TYPE_CHECKING

from hub.auth.provider import FetchError

if TYPE_CHECKING:
    import httpx2

    from hub_client.route import OutboundRoute

# From the first byte sent to the last one read. Guess: a provider answers within 100 ms.
FETCH_SECONDS = 5.0
# A set of 32 RSA keys of 4,096 bits with their certificates is 100 KB.
MAX_SET_BYTES = 256 * 1024


class KeySetSource:
    """Fetch a provider's key set."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._route: OutboundRoute | None = None
        """The route is found once: reading the system's certificates takes 34 ms."""

    async def __call__(self) -> bytes:
        """Return the set as it came; raise `FetchError`."""
        import httpx2  # noqa: PLC0415 - a hub without a provider does not need it

        from hub_client.interim import BoundedTransport  # noqa: PLC0415
        from hub_client.route import HTTP_ERRORS, find_route  # noqa: PLC0415

        try:
            route = self._route = self._route or find_route(self._url)
            async with (
                asyncio.timeout(FETCH_SECONDS),
                httpx2.AsyncClient(
                    transport=BoundedTransport(route, connections=1, keep_alive_seconds=0),
                    trust_env=False,
                    follow_redirects=False,
                    timeout=FETCH_SECONDS,
                ) as client,
                client.stream(
                    "GET",
                    self._url,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                ) as answer,
            ):
                return await _read(answer)
        except TimeoutError:
            raise FetchError("timeout", f"no whole answer within {FETCH_SECONDS:g} s") from None
        except httpx2.TimeoutException:
            raise FetchError("timeout", f"no answer within {FETCH_SECONDS:g} s") from None
        except HTTP_ERRORS + (OSError, ValueError) as error:  # noqa: RUF005 - mypy reads this one
            why = str(error) or type(error).__name__
            raise FetchError("unreachable", why) from None


async def _read(answer: "httpx2.Response") -> bytes:
    from hub_client.interim import LongAnswerError, read_bounded  # noqa: PLC0415 - as above

    if answer.status_code != 200:
        raise FetchError("refused", f"the provider answered {answer.status_code}")
    try:
        return await read_bounded(answer, max_bytes=MAX_SET_BYTES)
    except LongAnswerError as error:
        raise FetchError("too_large", str(error)) from None
