"""A TCP connection from accept to close: bytes in, requests to the routes, answers out.

`connection` owns the transport; `states` is the table of its states and deadlines, `phase` the
present one. Bytes come to `first_read`, then through `receive_buffer` and `reader` to `requests`,
and leave by `outgoing`. A handshake is refused in `door`, which needs no parser, or else in
`streams`, which also opens the streams; both ask `hub.transports.opening`. `parting` is the end of
a WebSocket that was refused by a close code.

The meaning of requests stands in `hub.transports.http`, the frames of streams in the modules of the
streams. Nothing here knows a path of the API or a broker.
"""
