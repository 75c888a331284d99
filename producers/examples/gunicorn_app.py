"""
An application under gunicorn, its log and gunicorn's own in the hub; `pip install gunicorn`, and in gunicorn.conf.py:

    workers = 3
    preload_app = True
    accesslog = "-"  # wanted; where it goes is said below
    hub = {"level": "INFO", "handlers": ["hub"], "propagate": False}
    logconfig_dict = {
        "handlers": {"hub": {"class": "producers.HubHandler"}},
        "root": {"level": "INFO", "handlers": ["hub"]},
        "loggers": {"gunicorn.error": hub, "gunicorn.access": hub},
    }

    gunicorn producers.examples.gunicorn_app:app
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger("shop.web")
log.info("loaded")  # once, before the workers are forked, where preload_app is set


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    log.info("request", extra={"path": environ["PATH_INFO"]})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
