"""A page that reads a channel with the hub's own client, and what it saw.

The page is `/client.js` itself, shown as text: of the hub's origin, and without a client of
its own. Works in whatever can go to a URL and evaluate JavaScript.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from tests.browser.seen import READ_SECONDS, Seen
from tests.support.waiting import eventually

Options = Mapping[str, object]

_OPEN = """async ({ url, channel, since, options }) => {
  const { Hub } = await import(`${url}/client.js`);
  const log = [], states = [];
  const random = () => Math.random() / 8; // a wait that would be seconds is not, in a test
  const hub = new Hub(url, { random, ...options });
  hub.on("state", (state) => states.push(state));
  const onGap = ({ reason, from, to, position }) => log.push({ reason, from, to, position });
  hub.subscribe(channel, ({ data, position }) => log.push({ data, position }), { since, onGap });
  globalThis.reader = { hub, log, states };
}"""
_STATE = "() => [reader.hub.state, reader.hub.transport]"
_LOG = "() => reader.log"
_PUBLISH = "({ channel, data }) => reader.hub.publish(channel, data)"
_HISTORY = "(channel) => reader.hub.history(channel)"


class Tab(Protocol):
    """A page of some browser: Playwright's, or `tests.browser.firefox.FirefoxTab`."""

    async def goto(self, url: str) -> object: ...

    async def evaluate(self, expression: str, arg: Any = None) -> Any:
        """Call the function that `expression` is; what it resolves to, as JSON has it."""
        ...


class Reader:
    """One subscription in one tab."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    async def open(self, url: str, channel: str, since: str, options: Options) -> None:
        """Go to the hub at `url` and subscribe from a position on."""
        await self._tab.goto(f"{url}/client.js")
        arg = {"url": url, "channel": channel, "since": since, "options": dict(options)}
        await self._tab.evaluate(_OPEN, arg)

    async def seen(self) -> Seen:
        return Seen(await self._tab.evaluate(_LOG))

    async def arrives_at(self, transport: str) -> None:
        """Wait until it is connected, by that transport."""

        async def arrived() -> bool:
            return bool(await self._tab.evaluate(_STATE) == ["connected", transport])

        try:
            await eventually(arrived, seconds=READ_SECONDS, what=f"a connection by {transport}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {await self.states()}") from None

    async def states(self) -> list[dict[str, Any]]:
        """Every change of the connection so far."""
        states: list[dict[str, Any]] = await self._tab.evaluate("() => reader.states")
        return states

    async def publish(self, channel: str, data: object) -> dict[str, Any]:
        """As the page's user would; where the hub put it."""
        arg = {"channel": channel, "data": data}
        answer: dict[str, Any] = await self._tab.evaluate(_PUBLISH, arg)
        return answer

    async def history(self, channel: str) -> list[Any]:
        """The data of the oldest that the hub still has."""
        page = await self._tab.evaluate(_HISTORY, channel)
        return [publication["data"] for publication in page["publications"]]
