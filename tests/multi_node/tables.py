"""Subscribers of a keyed channel with its state: what they hold is the table, at every position."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import httpx2 as httpx

from tests.multi_node.fleet import NO_TLS, Seat
from tests.multi_node.socket_reader import TRY_SECONDS
from tests.support.hub_process import HubProcess
from tests.support.stream import Place, Push, View, place

Rows = Mapping[str, object]
KEYS = 40


def key_of(number: int) -> str:
    """Returns the key of a publication; many publications share it."""
    return f"k{number % KEYS}"


def removes(number: int) -> bool:
    """Whether a publication takes its row away."""
    return number % 7 == 0


@dataclass
class TableView(View):
    """Rows and messages of one subscriber; what rows stand for is nobody's loss."""

    rows: dict[str, object] = field(default_factory=dict)
    _coming: dict[str, object] = field(default_factory=dict)
    _as_of: str = ""
    """The position of the pages that come; empty where none do."""
    _expects_rows: bool = False

    def feed(self, push: Push) -> None:
        match push["op"]:
            case "subscribed":
                self._as_of, self._expects_rows = "", bool(push.get("state"))
                if not self._expects_rows:
                    super().feed(push)
                elif self.began is None:
                    self.began = place(push["position"])
            case "state":
                self._page(push)
            case "message":
                if self._expects_rows:
                    self._fault(f"{push} came before the rows")
                super().feed(push)
                self._apply(push)
            case "gap" if push["reason"] != "invalid":
                self._fault(f"{push} in place of rows")
                super().feed(push)

    def _page(self, push: Push) -> None:
        if push["position"] != self._as_of:
            self._coming, self._as_of = {}, push["position"]
        for row in push["rows"]:
            self._coming[row["key"]] = row["data"]
        if not push["more"]:
            self.rows, self._as_of, self._expects_rows = self._coming, "", False
            self.position = place(push["position"])

    def _apply(self, push: Push) -> None:
        if push.get("remove"):
            self.rows.pop(push["key"], None)
        else:
            self.rows[push["key"]] = push["data"]

    def owes(self, at: Place) -> bool:
        return False

    def passed_over(self, at: Place) -> bool:
        return False


class TableSeat(Seat):
    """Over WebSocket."""

    def __init__(self, channel: str, name: str) -> None:
        super().__init__(channel, name)
        self.view: TableView = TableView(name)
        self.more = {"state": "true"}


async def rows_of(hub: HubProcess, channel: str) -> tuple[Place, Rows]:
    """The table, and the position that it holds at."""
    rows: dict[str, object] = {}
    after = ""
    async with httpx.AsyncClient(timeout=TRY_SECONDS, verify=NO_TLS) as client:
        while True:
            url = f"{hub.url}/api/channels/{channel}/state"
            answer = await client.get(url, params={"after": after, "limit": 1000})
            page = answer.raise_for_status().json()
            rows |= {row["key"]: row["data"] for row in page["rows"]}
            if page["next"] is None:
                return place(page["position"]), rows
            after = page["next"]


def faults(
    views: Iterable[TableView], said: Mapping[Place, object], head: Place, rows: Rows
) -> list[str]:
    """Tables that are not the hub's, and a table of the hub that is not what it was told last."""
    found = [
        f"{view.name}: {_different(view.rows, rows)} at {head}"
        for view in views
        if view.rows != rows
    ]
    newest: dict[str, int] = {}
    for (epoch, _), number in sorted(said.items()):
        if epoch == head[0]:
            assert isinstance(number, int)
            newest[key_of(number)] = number
    for key, number in newest.items():
        expected = None if removes(number) else number
        if rows.get(key) != expected:
            found.append(f"row {key} is {rows.get(key)}, published was {expected}")
    return found


def _different(one: Rows, other: Rows) -> str:
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} is {one.get(key)}, not {other.get(key)}" for key in keys[:5])
