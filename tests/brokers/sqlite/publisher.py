"""Publishes into a history file and says on stdout what was acknowledged, one line for each.

Run under strace by `test_power_cut.py`: its writes, and the moment of each acknowledgement, are
in one order there.

    python -m tests.brokers.sqlite.publisher FILE ROUNDS
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from hub.brokers.sqlite import recent, tending
from tests.brokers.sqlite.nodes import StoredNode


async def publish(path: Path, rounds: int) -> None:
    chance = random.Random(1)
    # Checkpoints, which write the file itself, have to be among what is cut; and so have moving,
    # trimming, and pages given back.
    tending._CHECKPOINT_BYTES = 100_000
    tending._SLACK, tending._FREE_BYTES, recent.MOVED_CHANGES = 3, 8192, 40
    async with StoredNode(path) as node:

        async def one(number: int) -> None:
            name = f"long:{chance.randrange(4)}" if number % 3 else "a"
            data = b'"%d %b"' % (number, b"x" * 300)
            made = await node.publish(name, data, idempotency_key=f"key-{number}")
            told = f"ack {name} {made.epoch} {made.offset} {number}\n"
            os.write(1, told.encode())

        for round_ in range(rounds):
            count = chance.randint(1, 12)
            await asyncio.gather(*(one(round_ * 100 + number) for number in range(count)))
            if round_ % 10 == 9:
                node.a_second_passes()


if __name__ == "__main__":
    asyncio.run(publish(Path(sys.argv[1]), int(sys.argv[2])))
