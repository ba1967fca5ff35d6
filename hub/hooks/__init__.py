"""The application behind the hub: the questions to it, and the events for it.

`HUB_HOOK_URL` answers questions and `HUB_WEBHOOK_URL` takes events.
The modules ask (`asking`), notice events (`watching`) and send them (`telling`), with bounds and
signatures for both. The moments of asking do not belong here: they are where a session is opened
(`hub.transports.opening`), where a command is carried out (`hub.core.command_handler`) and where a
request publishes (`hub.transports.http.publishing`).
"""
