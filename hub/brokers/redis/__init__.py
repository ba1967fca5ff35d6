"""The broker over Redis: pub/sub between nodes, history in streams, one atomic function.

Here belongs all code that knows Redis; nothing of redis-py, and none of its errors, leaves this
folder. Sessions and what peers see do not belong here. The rooms, each knowing only those below it:

- `broker`: the port that the core sees; `topology`, `directory` and `bus` beside each other:
- `topology`: the server of each channel, and its moves to another.
- `directory`: the names of the channels on all servers.
- `bus`: questions of nodes to each other; `leases`: nodes and members that live.
- `shard`: one server put together of `channels` and `link`.
- `channels`: a channel's messages and history in Redis, and this node's position in it.
- `link`: connections, calls, pub/sub and functions of one server; `lua` holds the functions.
- `options`, `keys`: limits with the parts that the node lends, and the names of all keys in Redis.
"""
