"""Requests of operators to a node, carried out here or at any other node.

How a request came (HTTP, the command line) and how nodes reach each other does not belong here.
"""
