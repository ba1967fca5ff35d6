"""The ways of peers to the hub: one port, four transports. Sockets exist only here.

The way of publications between nodes, and the rights of identities, do not belong here.
"""
