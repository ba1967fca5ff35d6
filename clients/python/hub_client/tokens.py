"""Where the token comes from: a constant, or a callable that is asked again when one ended."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

Token = str | Callable[[], str | Awaitable[str]] | None

# A function that starts cold, and a slow network, take ten. Guess, not measured.
_ASK_TIMEOUT_SECONDS = 60.0


def check_secret(secret: str, what: str) -> str:
    """A key or token as a header takes it, without the line end that mounted secrets have.

    Raises `ValueError`, which does not show it, when it holds what no header may hold.
    """
    plain = secret.rstrip("\r\n")
    if not (plain.isascii() and plain.isprintable()) or " " in plain:
        raise ValueError(
            f"the {what} holds a character that no header may hold: a blank, a line end, or one "
            "beyond ASCII"
        )
    return plain


class TokenSource:
    """Asks at most once between two welcomes, so that a bad token cannot make a loop."""

    def __init__(self, token: Token) -> None:
        self._ask = token if callable(token) else None
        self._token = check_secret(token, "token") if isinstance(token, str) else None
        self._asked_again = False
        self._asking = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        return self._ask is not None

    async def current(self) -> str | None:
        """The token to present; asked for when there is none yet or it was discarded.

        Whoever comes while it is being asked for waits for the same answer.

        Raises:
            TimeoutError: a callable gave none within 60 seconds.
            Exception: whatever the callable raises.
        """
        async with self._asking:
            if self._token is None and self._ask is not None:
                async with asyncio.timeout(_ASK_TIMEOUT_SECONDS):
                    answer = self._ask()
                    told = await answer if inspect.isawaitable(answer) else answer
                    self._token = told if told is None else check_secret(told, "token")
            return self._token

    def welcomed(self) -> None:
        """The hub took the token: the next refusal is about its end."""
        self._asked_again = False

    def discard(self) -> bool:
        """The hub refused the token; say whether another one is worth trying."""
        if self._ask is None or self._asked_again:
            return False
        self._token = None
        self._asked_again = True
        return True

    async def renewed(self) -> str | None:
        """A new token before the present one ends; None where it is a constant."""
        if self._ask is None:
            return None
        self._token = None
        return await self.current()
