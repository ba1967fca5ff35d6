"""How peers reach the hub: one port, four ways. Sockets exist only here.

How publications travel between nodes, and who may do what, does not belong here.
"""
