"""What the hub is, without I/O: channels, sessions, outboxes, and how a session gets a channel.

Sockets, asyncio, JSON, wire formats and names of brokers do not belong here: `hub.core.ports` says
what is handed in.
"""
