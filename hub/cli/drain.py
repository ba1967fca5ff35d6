"""`hub drain` and `hub rebalance` move connections away from nodes, paced, without a loss."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from hub.cli.columns import TerminalColumn, of, print_rows
from hub.cli.ending import WRONG_USE, fail, say
from hub.cli.flags import DEFAULT_URL, Url
from hub.cli.operator import AsJson, Json, Key, Operator, OperatorError, operate, print_json

Window = Annotated[
    float | None,
    typer.Option(
        min=0, max=3600, help="Seconds over which closes are spread; else the node's setting."
    ),
]
# Beyond the window: the node's readiness delay, and close time-outs of peers that are gone.
GRACE_SECONDS = 120.0
_LOOK_SECONDS = 1.0
# A rolling restart also ends nodes that a balancer still asks; after so many it is another fault.
_LOOKS = 5

_SHARES = (
    TerminalColumn("NODE", of("node"), width=12),
    TerminalColumn("CONNECTIONS", of("connections"), width=11, number=True),
    TerminalColumn("CLOSING", of("closing"), width=7, number=True),
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("drain")(drain)
    app.command("rebalance")(rebalance)


def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's name, as in hub nodes.")],
    window: Window = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="End the drain: the node takes connections again.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="End when the node is empty.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Close all connections of a node, paced; it takes no more, and its process stays.

    Each client is told to come back within the window, and finds the other nodes.
    """
    if undo and (wait or window is not None):
        raise fail(WRONG_USE, "--undo cannot be combined with --window or --wait")

    async def act(operator: Operator) -> None:
        method = "DELETE" if undo else "POST"
        told = await operator.tell(method, "nodes", node, "drain", window_seconds=window)
        if not as_json:
            say(_begun(node, told, undo=undo))
        if wait:
            seconds = float(told.get("window_seconds") or 0) + GRACE_SECONDS
            await wait_empty(operator, node, seconds, say)
        if as_json:
            print_json(told)

    operate(url, key, act)


def rebalance(
    window: Window = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Ask the connections above a node's fair share to connect again, paced.

    They spread only behind a load balancer that does not lead each back to where it was.
    """

    async def act(operator: Operator) -> None:
        told = await operator.tell("POST", "rebalance", window_seconds=window)
        if as_json:
            print_json(told)
            return
        print_rows(_SHARES, told["nodes"])
        silent = [row["node"] for row in told["nodes"] if row.get("closing") is None]
        if silent:
            say(f"no answer from {', '.join(silent)}")

    operate(url, key, act)


def _begun(node: str, told: Json, *, undo: bool) -> str:
    if undo:
        return f"{node} takes connections again"
    closing, seconds = told.get("closing", 0), told.get("window_seconds", 0)
    return f"{node} closes {closing:,} connections within {seconds:g} s"


@dataclass(slots=True)
class Emptying:
    """The state of a draining node, as successive lists of nodes show it."""

    node: str
    connections: int | None = None
    """Their number at the last look; None before the first one."""
    began: bool = False
    """Whether a list has shown the drain: a list may be a moment old."""

    def look(self, nodes: list[Json]) -> bool:
        """Return whether the node is empty or has ended; raise `OperatorError` where the drain was
        undone."""
        found = next((row for row in nodes if row["node"] == self.node), None)
        if found is None:
            self.connections = 0
            return True
        self.connections = found["connections"]
        if not found["draining"]:
            if self.began:
                raise OperatorError(f"{self.node} no longer drains: somebody ended the drain")
            return False
        self.began = True
        return not found["connections"]


async def wait_empty(
    operator: Operator, node: str, seconds: float, tell: Callable[[str], None]
) -> None:
    """Return when the node has no connections, or is gone.

    Raises:
        OperatorError: it still has some after `seconds`, or the drain was undone.
    """
    deadline = time.monotonic() + seconds
    emptying = Emptying(node)
    before: int | None = None
    while not emptying.look(await _nodes(operator)):
        if emptying.connections != before:
            tell(f"{node}: {emptying.connections:,} connections left")
        before = emptying.connections
        if time.monotonic() > deadline:
            raise OperatorError(f"{node} has {before} connections after {seconds:g} s")
        await asyncio.sleep(_LOOK_SECONDS)
    tell(f"{node} is empty")


async def _nodes(operator: Operator) -> list[Json]:
    for _ in range(_LOOKS - 1):
        try:
            return list((await operator.ask("nodes"))["nodes"])
        except OperatorError:
            await asyncio.sleep(_LOOK_SECONDS * (1 + random.random()))
    return list((await operator.ask("nodes"))["nodes"])
