"""The source of the token: a constant, or a callable that is called again when the token ends."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

Token = str | Callable[[], str | Awaitable[str]] | None

# A function that starts cold, and a slow network, take ten. Guess, not measured.
_ASK_TIMEOUT_SECONDS = 60.0


class TokenCancelledError(Exception):
    """The application cancelled its own callable; internal to the package."""


def check_secret(secret: str, what: str) -> str:
    """Return a key or token as a header takes it, without the line end of mounted secrets.

    Raises `ValueError`, without the secret in its text, where a header cannot hold it.
    """
    plain = secret.rstrip("\r\n")
    if not (plain.isascii() and plain.isprintable()) or " " in plain:
        cure = "; leave out the word Bearer" if plain.lower().startswith("bearer ") else ""
        raise ValueError(
            f"the {what} holds a character that no header may hold: a blank, a line end, or one "
            f"beyond ASCII{cure}"
        )
    return plain


class TokenSource:
    """Ask for a token at most once between two welcomes, so that a bad token cannot make a loop."""

    def __init__(self, token: Token) -> None:
        self._ask = token if callable(token) else None
        self._token = check_secret(token, "token") if isinstance(token, str) else None
        self._asked_again = False
        self._asking = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        return self._ask is not None

    async def current(self) -> str | None:
        """Return the token to present; ask for it where there is none, or where it was discarded.

        Several callers that come meanwhile wait for the same answer.

        Raises:
            TimeoutError: The callable returned none within 60 seconds.
            TokenCancelledError: The application cancelled the callable from inside.
            Exception: An error of the callable; `LoggedOutError` says that there is no token any
                more.
        """
        async with self._asking:
            if self._token is None and self._ask is not None:
                self._token = await _answer(self._ask)
            return self._token

    def welcomed(self) -> None:
        """Note that the hub took the token: a later refusal concerns its end."""
        self._asked_again = False

    def discard(self) -> bool:
        """Note that the hub refused the token; return whether another one is worth a try."""
        if self._ask is None or self._asked_again:
            return False
        self._token = None
        self._asked_again = True
        return True

    async def renewed(self) -> str | None:
        """Return a new token before the present one ends; None where the token is a constant.

        Raises as `current`.
        """
        if self._ask is None:
            return None
        self._token = None
        return await self.current()


async def _answer(ask: Callable[[], str | Awaitable[str]]) -> str | None:
    """Return the callable's token.

    The callable runs in a task of its own. A cancellation that the application raises inside of it
    ends that task alone, and is not taken for a cancellation of this client.
    """

    async def asked() -> str:
        answer = ask()
        return await answer if inspect.isawaitable(answer) else answer

    task = asyncio.create_task(asked())
    task.add_done_callback(_retrieved)
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_SECONDS):
            await asyncio.wait({task})
    finally:
        task.cancel()
    if task.cancelled():
        raise TokenCancelledError("its function was cancelled")
    told = task.result()
    return told if told is None else check_secret(told, "token")


def _retrieved(task: asyncio.Task[str]) -> None:
    """Look at the error of a task that was given up, because asyncio reports an error that nobody
    looked at."""
    if not task.cancelled():
        task.exception()
