"""The wire to one Redis server: connections, calls, pub/sub, server-side functions, failures.

Code that talks to a single server belongs here. The meaning of a channel, and the choice of one of
several servers for it, does not: nothing here knows offsets, publications or other servers.
"""
