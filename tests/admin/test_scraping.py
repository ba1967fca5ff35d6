"""One page of metrics for the workers of a supervisor, whichever of them is asked."""

import pytest

from hub.admin.rpc import AdminRpc
from hub.admin.scraping import Scraped, Scraping, scraping
from tests.admin.network import Network, node_record

PLAIN = "text/plain"


def page(worker: int, value: int) -> bytes:
    return f'# HELP hub_x X.\n# TYPE hub_x gauge\nhub_x{{worker="{worker}"}} {value}\n'.encode()


class Machine:
    """Workers by tag, which is their name in the network alone."""

    def __init__(self) -> None:
        self.network = Network()
        self._scraping: dict[str, Scraping] = {}

    async def start(
        self, tag: str, node: str, worker: int, value: int, *, at: int = 1, supervisor: str = "s"
    ) -> None:
        record = {"worker": worker, "started_ms": at}
        scraped = Scraped(
            tag=tag,
            supervisor=supervisor,
            render=lambda _accept: (page(worker, value), PLAIN),
            record=lambda: node_record(node, **record),
        )
        rpc: AdminRpc = await self.network.join(tag, scraping(scraped), **record)
        self.network.records[tag] = scraped.record
        self._scraping[tag] = Scraping(rpc, scraped)

    async def samples(self, tag: str) -> list[str]:
        body, content_type = await self._scraping[tag].everywhere("")
        assert content_type == PLAIN
        assert body.count(b"# HELP") == 1
        return sorted(line for line in body.decode().splitlines() if line[0] != "#")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def samples(*pairs: tuple[int, int]) -> list[str]:
    return [f'hub_x{{worker="{worker}"}} {value}' for worker, value in pairs]


async def test_every_worker_s_page_is_there_at_any_worker(machine: Machine) -> None:
    for number in (1, 2, 3):
        await machine.start(f"t{number}", f"web-{number}", number, number * 10)
    for number in (1, 2, 3):
        assert await machine.samples(f"t{number}") == samples((1, 10), (2, 20), (3, 30))


async def test_no_series_is_there_twice_while_a_worker_is_replaced(machine: Machine) -> None:
    """The one that started later tells them, also where the one that leaves is asked."""
    await machine.start("old", "web-1", 1, 10, at=1)
    await machine.start("two", "web-2", 2, 20, at=1)
    await machine.start("new", "web-1", 1, 11, at=2)
    for tag in ("old", "two", "new"):
        assert await machine.samples(tag) == samples((1, 11), (2, 20))


async def test_a_worker_that_leaves_tells_them_where_its_successor_does_not_answer(
    machine: Machine,
) -> None:
    await machine.start("old", "web-1", 1, 10, at=1)
    await machine.start("new", "web-1", 1, 11, at=2)
    machine.network.silent.add("new")
    assert await machine.samples("old") == samples((1, 10))


async def test_workers_of_another_hub_of_that_name_are_scraped_there(machine: Machine) -> None:
    """Two hubs of one machine on one Redis: both have the machine's name."""
    await machine.start("a1", "web-1", 1, 10, at=1, supervisor="a")
    await machine.start("a2", "web-2", 2, 20, at=1, supervisor="a")
    await machine.start("b1", "web-1", 1, 99, at=2, supervisor="b")
    await machine.start("b2", "web-2", 2, 98, at=2, supervisor="b")
    assert await machine.samples("a1") == samples((1, 10), (2, 20))
    assert await machine.samples("b2") == samples((1, 99), (2, 98))


async def test_nodes_of_other_names_are_scraped_there(machine: Machine) -> None:
    await machine.start("a", "web-1", 1, 10)
    await machine.start("b", "other-2", 2, 20)
    await machine.start("c", "web-3", 0, 30)
    assert await machine.samples("a") == samples((1, 10))


async def test_a_worker_that_cannot_ask_tells_its_own(machine: Machine) -> None:
    await machine.start("t1", "web-1", 1, 10)
    await machine.start("t2", "web-2", 2, 20)
    machine.network.away = True
    assert await machine.samples("t1") == samples((1, 10))
