"""One broker for the workers of a machine: a process of its own that they reach over a socket.

`server` serves a broker, `client` is a worker's way to it, and `frames` is what they say to each
other. Roster and bus of the workers (`presence`, `bus`) go the same way.

No process is started here, and what is served is not known here: any broker of `hub.core.ports`.
"""
