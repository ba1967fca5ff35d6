"""What the application behind the hub is asked (`HUB_HOOK_URL`) and told (`HUB_WEBHOOK_URL`).

Questions, answers, their bounds and signatures. Not who is asked about, or when: that is known
where a session is opened (`hub.transports.opening`) and where a command is carried out
(`hub.core.command_handler`).
"""
