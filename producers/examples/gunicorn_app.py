"""
An application under gunicorn. Its log and gunicorn's own go to the hub. `pip install gunicorn`; in gunicorn.conf.py:

    workers = 3
    preload_app = True
    accesslog = "-"  # enables the access log; its destination is set below
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
log.info("loaded")  # with preload_app: once, before the workers are forked


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    log.info("request", extra={"path": environ["PATH_INFO"]})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
