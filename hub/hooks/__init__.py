"""The application behind the hub: the questions to it, and the events for it.

`HUB_HOOK_URL` answers questions and `HUB_WEBHOOK_URL` takes events. The modules ask (`asking`),
notice events (`watching`) and send them (`telling`), with bounds and signatures for both. The
callers do not belong here: a session is opened in `hub.transports.opening`, a command is carried
out in `hub.core.command_handler`, and a request publishes in `hub.transports.http.publishing`.
"""
