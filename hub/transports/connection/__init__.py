"""A TCP connection from accept to close: bytes in, requests to the routes, answers out.

What a request means stands in `hub.transports.http`, what a stream sends in the modules of the
streams. Nothing here knows a path of the API or a broker.
"""
