"""The garbage collector visits what stays once, and not while the event loop has work."""

import pytest

from hub.main import collections_before_a_full_one
from tests.support.hub_process import HubProcess

# Of 85,000 objects at a node's start; what it makes after the loop began is 2,000 to 4,000.
FEW = 20_000
_PROGRAM = """
import asyncio, gc, runpy, sys
def collecting(collect=gc.collect):
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return collect()
    print(f"visited={len(gc.get_objects())}", file=sys.stderr, flush=True)
    return collect()
gc.collect = collecting
sys.argv = ["hub", "serve"]
runpy.run_module("hub", run_name="__main__")
"""


class HubThatCounts(HubProcess):
    program = ("-c", _PROGRAM)
    # What is forked has loaded nothing itself.
    is_forked = False


def test_the_loop_does_not_stand_still_for_what_was_loaded_before_it_began() -> None:
    """A visit to all that was loaded takes 50 ms on a calm machine, and was logged as a blocked
    loop on a busy one."""
    with HubThatCounts() as hub:
        visited = [line for line in hub.stderr.splitlines() if line.startswith("visited=")]
        assert len(visited) == 1
        assert int(visited[0].removeprefix("visited=")) < FEW


@pytest.mark.parametrize(
    ("young", "middle", "collections"), [(700, 10, 100), (2000, 10, 35), (0, 10, 700_000)]
)
def test_as_much_garbage_may_grow_old_in_each_version_of_python(
    young: int, middle: int, collections: int
) -> None:
    """Python 3.13 collects young objects a third as often; its own bound on old ones would be
    three times ours."""
    assert collections_before_a_full_one(young, middle) == collections
