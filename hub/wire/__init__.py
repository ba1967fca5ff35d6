"""Wire formats: bytes to commands, pushes to bytes. Pure functions.

Connections, sessions and whatever waits do not belong here.
"""
