"""Requests of operators to a node, carried out here or at any other node.

The reading of requests (HTTP, the command line) and the way of bytes between nodes do not belong
here.
"""
