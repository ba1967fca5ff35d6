"""Several nodes of one machine behind one port: the supervisor that starts them, and its orders.

`hub serve --workers 4` is five or six processes, all made from one command line: the supervisor,
which serves nobody, four workers, and the broker process where the broker is not a server
elsewhere. `roles` says which of them this process is. No node is put together here.
"""
