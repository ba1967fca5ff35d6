"""One node put together: the only folder that names concrete classes.

`node` makes each part once and hands the parts to each other; `core`, `broker`, `access`, `hooks`,
`transports` and `api` make or join some of them. The other modules connect the node to its
surroundings: `server` and `binding` (the port), `file_watch` (keys and the certificate), `stats`
(figures for operators), `hosted` (a hub in somebody else's server), `greeting` and `demo`.
`supervisor` starts several nodes.

The behaviour of a part stands in the part's own folder; that of the process (signals, limits, exit
code) stands in `hub.main`.
"""
