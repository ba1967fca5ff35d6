"""Requests of all operators' commands to a hub, and the exit codes of these commands.

They end with 0 when done, 1 when the hub refuses or is away, 2 when the call itself is wrong, 3
when the outcome of an action is unknown, and 130 when interrupted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import quote

import typer

from hub.cli.ending import INTERRUPTED, UNKNOWN, WRONG_USE, fail
from hub.observe.terminal import to_json

if TYPE_CHECKING:
    import httpx2

Json = dict[str, Any]
"""An answer of the hub. Fields that an older node leaves out are read with a default."""

Key = Annotated[str | None, typer.Option("--key", envvar="HUB_OPERATOR_KEY", help="Operator key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the hub's answer as JSON.")]

REFUSED = 1
# A node asks the others for 2 s; the command gives up soon after.
TIMEOUT_SECONDS = 10.0
_UNKNOWN_CODES = frozenset({"outcome_unknown"})
_KEY_CODES = frozenset({"unauthorized", "forbidden"})
"""The codes of refusals that another key would change."""


class OperatorError(Exception):
    """The hub did not act, or the outcome is unknown; `exit_code` tells which."""

    def __init__(self, message: str, *, code: str = "", exit_code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code
        """The hub's error code; empty where the hub gave none."""
        self.exit_code = exit_code


class Operator:
    """The HTTP API of a hub for its operator; used with `async with`."""

    def __init__(self, url: str, key: str | None) -> None:
        """Raise `ValueError` for a text that is no URL of a hub, and for proxies or certificates of
        the environment that cannot be used."""
        import httpx2

        from hub_client.route import find_route
        from hub_client.tokens import check_secret
        from hub_client.transport import check_base_url, public_url

        self.url = check_base_url(url)
        route = find_route(self.url)
        self.shown_url = public_url(self.url)
        """The URL without a password."""
        self.key = key or None
        headers = {"Authorization": f"Bearer {check_secret(key, 'key')}"} if key else {}
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            proxy=route.httpx_proxy,
            verify=route.verify,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, *path: str, **query: object) -> Json:
        """Read `path`; a query parameter that is None is left out.

        Raises:
            OperatorError: The hub refuses, is away, or answers with something else than JSON.
        """
        answer: Json = (await self._send("GET", path, query)).json()
        return answer

    async def tell(self, method: str, *path: str, **query: object) -> Json:
        """Ask the hub to act; return {} where the answer has no body.

        Raises:
            OperatorError: The hub did not act, or (`exit_code` 3) the outcome is unknown.
        """
        answer = await self._send(method, path, query)
        told: Json = answer.json() if answer.content else {}
        return told

    async def send(self, method: str, body: object, *path: str) -> Json:
        """Ask the hub to act, with a body of JSON. Raises as `tell` does."""
        answer = await self._send(method, path, {}, body)
        told: Json = answer.json() if answer.content else {}
        return told

    async def _send(
        self, method: str, path: tuple[str, ...], query: dict[str, object], body: object = None
    ) -> "httpx2.Response":
        import httpx2

        from hub_client.answer import first_check, untrusted
        from hub_client.route import HTTP_ERRORS

        given = {name: str(value) for name, value in query.items() if value is not None}
        # Names become one segment each, whatever characters they have.
        url = "/".join((self.url, "api", *(quote(part, safe="") for part in path)))
        try:
            answer = await self._client.request(method, url, params=given, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            if (said := untrusted(str(error))) is not None:
                raise OperatorError(f"{said}, at {self.shown_url}") from None
            why = _why(error)
            check = first_check(why)
            raise OperatorError(f"no hub at {self.shown_url}: {why}; {check}") from None
        except HTTP_ERRORS as error:
            raise self._cut(method, error) from None
        return self._checked(answer)

    def _cut(self, method: str, error: Exception) -> OperatorError:
        if method == "GET":
            return OperatorError(f"the hub at {self.shown_url} did not answer: {_why(error)}")
        unknown = f"outcome unknown: the hub at {self.shown_url} did not answer: {_why(error)}"
        return OperatorError(unknown, exit_code=UNKNOWN)

    def _checked(self, answer: "httpx2.Response") -> "httpx2.Response":
        from hub_client.frames import read_problem

        if answer.is_success and (not answer.content or _is_json(answer)):
            return answer
        problem = read_problem(answer.content)
        if not problem.code:
            what = f"answered {answer.status_code} and is no hub, or a proxy stands before it"
            raise OperatorError(f"{self.shown_url} {what}")
        hint = " (--key or HUB_OPERATOR_KEY)" if problem.code in _KEY_CODES else ""
        code = UNKNOWN if problem.code in _UNKNOWN_CODES else REFUSED
        message = f"{problem.code}: {problem.detail}{hint}"
        raise OperatorError(message, code=problem.code, exit_code=code)


def operate(url: str, key: str | None, act: Callable[[Operator], Awaitable[None]]) -> None:
    """Run `act` to its end; print what went wrong, and exit as the module says."""

    async def run() -> None:
        async with Operator(url, key) as operator:
            await act(operator)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except OperatorError as error:
        raise fail(error.exit_code, str(error)) from None
    except ValueError as error:
        raise fail(WRONG_USE, str(error)) from None


def print_json(document: object) -> None:
    """Print a JSON document as one line on stdout."""
    typer.echo(to_json(document))


def _is_json(answer: "httpx2.Response") -> bool:
    kind: str = answer.headers.get("content-type", "")
    return kind.startswith("application/json")


def _why(error: Exception) -> str:
    """Return the error's text, or the name of its class: some errors of httpx2 have no text."""
    return str(error) or type(error).__name__
