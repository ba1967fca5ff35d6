"""What the application behind the hub is asked (`HUB_HOOK_URL`) and told (`HUB_WEBHOOK_URL`).

Questions (`asking`) and their answers; events as they are seen (`watching`) and sent (`telling`);
bounds and signatures of both. Not who is asked about, or when: that is known where a
session is opened (`hub.transports.opening`), where a command is carried out
(`hub.core.command_handler`) and where a request publishes (`hub.transports.http.publishing`).
"""
