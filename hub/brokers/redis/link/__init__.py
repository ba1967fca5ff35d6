"""The wire to one Redis server: connections, calls, pub/sub, server-side functions, failures.

Here belongs what talks to a single server. What a channel is, and which of several servers has
it, does not: nothing here knows offsets, publications or other servers.
"""
