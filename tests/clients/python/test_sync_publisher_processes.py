"""Threads and forked workers that share one `SyncPublisher`, against a real hub."""

import subprocess
import sys
import threading

import httpx2 as httpx

from hub_client import (
    Batching,
    PublisherOptions,
    SyncPublisher,
)
from tests.support.hub_process import HubProcess

THREADS, EACH = 8, 25


def history(url: str, channel: str) -> list[object]:
    answer = httpx.get(f"{url}/api/channels/{channel}/history", params={"limit": 1000}, timeout=30)
    return [item["data"] for item in answer.json()["publications"]]


def test_eight_threads_publish_each_publication_once_and_get_their_own_answers() -> None:
    """A real hub's history holds every number once, at the offset the thread was told."""
    told: dict[int, int] = {}
    options = PublisherOptions(batching=Batching(max_wait_seconds=0.002), max_connections=2)

    def work(made: SyncPublisher, first: int) -> None:
        for number in range(first, first + EACH):
            told[number] = made.publish("a", number).position.offset

    with (
        HubProcess(HUB_HISTORY_SIZE="1000") as hub,
        SyncPublisher(hub.url, options=options) as made,
    ):
        threads = [
            threading.Thread(target=work, args=(made, start * EACH)) for start in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        kept = history(hub.url, "a")
    assert sorted(told) == [*range(THREADS * EACH)]
    assert {number: kept.index(number) + 1 for number in told} == told
    assert len(kept) == THREADS * EACH


FORKS = """
import os, sys, threading
from hub_client import SyncPublisher

publisher = SyncPublisher(sys.argv[1])
publisher.publish("a", 0)
busy = threading.Event()

def keep_publishing():
    for number in range(100, 200):
        publisher.publish("parent", number)
        busy.set()

thread = threading.Thread(target=keep_publishing)
thread.start()
busy.wait()
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(20):
                told = publisher.publish(f"child{child}", number)
                assert (told.channel, told.position.offset) == (f"child{child}", number + 1), told
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
thread.join()
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""


def test_forked_workers_publish_while_a_thread_of_the_parent_is_in_the_middle_of_it() -> None:
    """Each process has connections and locks of its own: no answer goes astray, none hangs."""
    with HubProcess(HUB_HISTORY_SIZE="1000") as hub:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORKS, hub.url],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert history(hub.url, "parent") == [*range(100, 200)]
        assert [history(hub.url, f"child{child}") for child in range(3)] == [[*range(20)]] * 3
