# /// script
# requires-python = ">=3.11"
# dependencies = ["broadcast-hub-client", "django>=5.2"]
#
# [tool.uv.sources]
# broadcast-hub-client = { path = "../python", editable = true }
# ///
"""A Django view that publishes when an order was saved, without asyncio.

    uv run --script clients/examples/django_app.py runserver 8001
    curl -d id=17 -d amount=3 http://127.0.0.1:8001/orders

`HUB_URL` says where the hub is, `HUB_PUBLISH_KEY` with which key. One `SyncPublisher` serves all
threads of a process and survives the forking of gunicorn or Celery workers. In a project the view
stands in views.py; the settings here only make one file of it.
"""

import logging
import os
import sys

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from hub_client import (
    NotPublishedError,
    OutcomeUnknownError,
    PublisherOptions,
    PublishRefusedError,
    PublishRetry,
    SyncPublisher,
)

log = logging.getLogger("orders")
publisher = SyncPublisher(
    os.environ.get("HUB_URL", "http://127.0.0.1:8000"),
    key=os.environ.get("HUB_PUBLISH_KEY"),
    # A visitor waits for this view: better a late announcement than a slow page.
    options=PublisherOptions(retry=PublishRetry(for_seconds=2, request_timeout_seconds=2)),
)


@csrf_exempt
def orders(request: HttpRequest) -> JsonResponse | HttpResponseNotAllowed:
    """Save an order, then tell everybody who watches."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    order = {"id": request.POST["id"], "amount": int(request.POST["amount"])}
    # ... save it; with a database, publish in `transaction.on_commit`.
    try:
        # The key says what this is: however often the visitor's browser repeats the request
        # within five minutes, subscribers see the order once.
        key = f"order-{order['id']}"
        published = publisher.publish("orders", order, idempotency_key=key)
    except NotPublishedError as error:
        log.warning("order %s is not announced: %s", order["id"], error)
        return JsonResponse({"order": order, "announced": False}, status=202)
    except OutcomeUnknownError as error:
        log.warning("order %s may not be announced: %s", order["id"], error)
        return JsonResponse({"order": order, "announced": None}, status=202)
    except PublishRefusedError as error:
        if error.code == "conflict":
            # The same number was announced with other data before.
            return JsonResponse({"order": order, "error": error.message}, status=409)
        # A wrong key or a missing grant is this program's fault and not the visitor's, whose order
        # is saved.
        log.error("order %s is not announced: %s", order["id"], error)  # noqa: TRY400 - one line
        return JsonResponse({"order": order, "announced": False}, status=202)
    return JsonResponse({"order": order, "announced": str(published.position)})


urlpatterns = [path("orders", orders)]


def make_application() -> WSGIHandler:
    """Returns the WSGI application for gunicorn: `gunicorn 'django_app:make_application()'`."""
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        ROOT_URLCONF=__name__,
        # Without DEBUG, Django sends what goes wrong to nobody unless it is told to.
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        },
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "an example has no secrets"),
    )
    django.setup()
    return get_wsgi_application()


if __name__ == "__main__":
    make_application()
    execute_from_command_line(sys.argv)
