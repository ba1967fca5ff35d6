"""One broker for the workers of a machine: a process of its own that they reach over a socket.

A worker's side: `link` keeps the connection up, `client` is the broker, `followed` has the channels
that the worker follows, `bus` is the way to the other workers. The broker process' side: `server`
serves a broker, `workers` has what it knows of each worker. `frames` is their protocol.

No process is started here, and the served broker is not known here: it is any of `hub.core.ports`.
That broker gives the offsets; a worker gives none.
"""
