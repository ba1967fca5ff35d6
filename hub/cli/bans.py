"""`hub ban`, `unban`, `revoke` and `bans`: which subjects and tokens every node refuses."""

from typing import Annotated

import typer

from hub.cli.columns import BANS, clock, print_rows
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operator import AsJson, Key, Operator, operate, print_json
from hub.cli.token import seconds_of

Sub = Annotated[str, typer.Argument(metavar="SUB", help="The subject (sub) of the tokens.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("ban")(ban)
    app.command("unban")(unban)
    app.command("revoke")(revoke)
    app.command("bans")(bans)


def ban(
    sub: Sub,
    lasts: Annotated[
        str, typer.Option("--for", "--seconds", help="The time: 90s, 15m, 1h, 30d.")
    ] = "1h",
    reason: Annotated[str, typer.Option(help="The reason, which the client gets.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Close all connections of a subject, and refuse its tokens until the ban ends."""
    seconds = seconds_of(lasts, "--for", may_be_never=False)

    async def act(operator: Operator) -> None:
        body = {"seconds": seconds, "reason": reason}
        told = await operator.send("PUT", body, "subjects", sub, "ban")
        if as_json:
            print_json(told)
        else:
            say(f"{sub} is banned until {clock(told.get('until_ms'))}")

    operate(url, key, act)


def unban(sub: Sub, as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Let a subject in again, on every node."""

    async def act(operator: Operator) -> None:
        await operator.tell("DELETE", "subjects", sub, "ban")
        if as_json:
            print_json({"sub": sub})
        else:
            say(f"{sub} may come in again")

    operate(url, key, act)


def bans(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The largest number of rows.")] = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List bans and revocations in force; those that end last come first."""

    async def act(operator: Operator) -> None:
        told = await operator.ask("bans", limit=limit)
        if as_json:
            print_json(told)
        else:
            print_rows(BANS, told["bans"])

    operate(url, key, act)


def revoke(
    jti: Annotated[str | None, typer.Option(help="The id (jti) of one token.")] = None,
    sub: Annotated[str | None, typer.Option(help="Tokens of this subject ...")] = None,
    issued_before: Annotated[
        float | None,
        typer.Option(help="... that were made before: seconds since 1970 UTC; 0 is none."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Revoke one token by its name, or all of a subject's older tokens."""
    if (jti is None) == (sub is None) or (sub is None) != (issued_before is None):
        raise fail(WRONG_USE, "give either --jti, or --sub and --issued-before")
    body: dict[str, object] = (
        {"jti": jti} if jti is not None else {"sub": sub, "issued_before": issued_before}
    )

    async def act(operator: Operator) -> None:
        told = await operator.send("POST", body, "tokens", "revoke")
        if as_json:
            print_json(told)
        else:
            say("revoked")

    operate(url, key, act)
