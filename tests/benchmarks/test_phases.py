"""The steps of a round wait for the processes of the load."""

import threading
from multiprocessing import Pipe, Process

from hub.bench.load import LoadProcess, begin
from hub.bench.plan import LoadCommand


def test_the_measured_phase_begins_only_when_every_reader_has_begun_it() -> None:
    """Bytes that a late reader had read before it began would be missing from
    the bytes of a delivery."""
    pipes = [Pipe() for _ in range(2)]
    herd = [LoadProcess(Process(name="reader"), pipe) for pipe, _ in pipes]
    begun = threading.Event()

    def run() -> None:
        begin(herd)
        begun.set()

    beginning = threading.Thread(target=run)
    beginning.start()
    for _, reader in pipes:
        assert not begun.is_set()
        assert reader.recv() is LoadCommand.BEGIN
        reader.send(LoadCommand.BEGIN)
    beginning.join()
    assert begun.is_set()
