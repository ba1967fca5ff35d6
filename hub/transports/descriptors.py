"""The same bytes to many sockets: one `os.write` each, and nothing else.

Only for sockets whose transports hold nothing back and that have no TLS
(`hub.core.session.link.Link.descriptor`).
"""

import os
from array import array


def write_each(
    descriptors: "array[int]", start: int, stop: int, data: bytes
) -> tuple[int, int] | None:
    """Implements `hub.core.ports.WriteEach`."""
    write, size = os.write, len(data)
    # Behind an error the same iterator goes on: entering `try` for each write costs more.
    pending = iter(descriptors[start:stop])
    descriptor = -1
    while True:
        try:
            for descriptor in pending:
                if (taken := write(descriptor, data)) != size:
                    return descriptor, taken
        except BlockingIOError:
            return descriptor, 0
        except OSError:
            # The peer is gone, which its transport finds out by itself; or it left meanwhile.
            continue
        return None
