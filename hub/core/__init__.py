"""What the hub is, without I/O: sessions, channels, and how a publication reaches who subscribes.

`SessionRegistry` and `CommandHandler` stand here, with what passes between layers; the rooms hold
the rest: `recovery` above `fanout` above `time` above `session` above `forensics`. Sockets,
asyncio, JSON, wire formats and names of brokers do not belong here: `hub.core.ports` says what is
handed in.
"""
