"""A TCP connection from accept to close: bytes in, requests to the routes, answers out.

The meaning of requests stands in `hub.transports.http`, the frames of streams in the modules of the
streams. Nothing here knows a path of the API or a broker.
"""
