"""The Redis server of each channel: fixed servers, Sentinel's master, or a Redis Cluster.

Here belongs code that finds servers, notices that they were replaced, and moves channels between
them. How a server is talked to does not, and no payload is read here.
"""
