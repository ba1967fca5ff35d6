"""The benchmark: the server's cost of a delivery, a connection and an idle subscriber.

The load must be cheaper than what it measures, so nothing here parses a stream frame by frame:
readers are bare sockets in one epoll loop that count needles in big chunks. Server and load are
processes of their own on cores of their own. It knows the hub only by its wire contract and must
not import the hub's layers.
"""
