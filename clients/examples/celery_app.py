# /// script
# requires-python = ">=3.11"
# dependencies = ["broadcast-hub-client", "celery[redis]>=5.5"]
#
# [tool.uv.sources]
# broadcast-hub-client = { path = "../python", editable = true }
# ///
"""A Celery task that publishes, and may run twice without anybody seeing it twice.

    uv run --script clients/examples/celery_app.py worker
    uv run --script clients/examples/celery_app.py announce 17 3

`CELERY_BROKER` says where Celery's broker is (a Redis on this machine), `HUB_URL` where the hub is,
`HUB_PUBLISH_KEY` with which key. One `SyncPublisher` serves all workers of the process and survives
their forking.
"""

import os
import sys

from celery import Celery, Task

from hub_client import (
    NotPublishedError,
    OutcomeUnknownError,
    PublisherOptions,
    PublishRetry,
    SyncPublisher,
)

publisher = SyncPublisher(
    os.environ.get("HUB_URL", "http://127.0.0.1:8000"),
    key=os.environ.get("HUB_PUBLISH_KEY"),
    # A worker that waits does nothing else: Celery brings the task again later.
    options=PublisherOptions(retry=PublishRetry(for_seconds=5)),
)
app = Celery("orders", broker=os.environ.get("CELERY_BROKER", "redis://127.0.0.1:6379/0"))
# A worker that dies in the middle of a task leaves it for another one.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)


@app.task(bind=True, name="announce", max_retries=10)
def announce(self: Task, number: str, amount: int) -> str:
    """Tell everybody who watches the orders; returns the position.

    The idempotency key is made of what the task is about. So a task that runs again, by Celery or
    by `retry`, within the hub's five minutes is published once.
    """
    order = {"id": number, "amount": amount}
    try:
        key = f"order-{number}"
        published = publisher.publish("orders", order, idempotency_key=key)
    except (NotPublishedError, OutcomeUnknownError) as error:
        # 1, 2, 4, ... seconds later, at most a minute.
        raise self.retry(exc=error, countdown=min(60, 2**self.request.retries)) from error
    return str(published.position)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["announce", number, amount]:
            announce.delay(number, int(amount))
        case arguments:
            app.start(arguments or ["worker"])
