"""The hub without I/O: sessions, channels, and the way of a publication to subscribers.

This folder has the session registry, the command handler, and the values that pass between layers.
The subfolders are layers: `recovery` above `fanout` above `time` above `session` above `forensics`.
Sockets, asyncio, JSON, wire formats and names of brokers do not belong here. `hub.core.ports`
declares everything that is handed in.
"""
