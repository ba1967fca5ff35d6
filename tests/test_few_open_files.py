"""A node says when its connections need nearly all the files it may open, and not before."""

import socket
from contextlib import ExitStack
from pathlib import Path

from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

ALLOWED = 200
_PROGRAM = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({ALLOWED}, {ALLOWED}))
sys.argv = ["hub", "serve"]
runpy.run_module("hub", run_name="__main__")
"""


class HubWithFewFiles(HubProcess):
    program = ("-c", _PROGRAM)


def test_the_table_of_open_files_has_its_size_before_the_first_connection() -> None:
    """Else the kernel stops the loop each time that the table doubles, for 5 to 20 ms."""
    with HubProcess(HUB_MAX_CONNECTIONS="3000") as hub:
        status = Path(f"/proc/{hub.pid}/status").read_text()
        assert int(status.partition("FDSize:")[2].split()[0]) >= 3000


async def test_few_open_files_are_said_at_80_percent_and_not_at_the_start() -> None:
    """A start on a machine with small limits is no news; running out of files is."""
    with HubWithFewFiles() as hub, ExitStack() as peers:

        def said() -> int:
            return hub.stderr.count('"few_open_files"')

        def connect(count: int) -> None:
            for _ in range(count):
                peers.enter_context(socket.create_connection(("127.0.0.1", hub.port)))

        connect(100)
        assert said() == 0
        connect(65)
        await eventually(lambda: said() == 1, what="the warning")
        assert f'"limit":{ALLOWED}' in hub.stderr
