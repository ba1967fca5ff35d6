"""Brokers number publications and keep them: in memory, in a file, or in Redis between nodes.

Here belong implementations of `hub.core.ports.Broker` and their parts. Sessions, dialects
and connections of peers do not: a broker delivers into `hub.core.ports.Downstream` and does not
know what is behind it.

`hub.settings.parsing.check_broker` and `hub.settings.Settings.broker_is_elsewhere` know the brokers
by their URLs. `hub.node.broker` makes them, and its `NodeBroker` says what else a node asks of one:
start, stop, health, figures. A broker that several machines reach also has the roster of members
(`hub.core.ports.Roster`) and the way from node to node (`hub.admin.rpc.NodeBus`).
`tests/brokers/test_contract.py` has the rules for all of them.
"""
