"""
structlog, with its event dicts sent to the hub unchanged.

    python -m producers.examples.structlog_app && mpsr logs --tag shop.web
"""

import asyncio

import structlog

from producers import HubLoggerFactory, HubRenderer

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        HubRenderer(),  # no TimeStamper needed: every message has a time
    ],
    logger_factory=HubLoggerFactory(),
)
log = structlog.get_logger("shop.web")


async def handle(request: int) -> None:
    structlog.contextvars.bind_contextvars(request=request)
    await log.ainfo("request started", path=f"/orders/{request}")
    try:
        log.info("request finished", status=200, per_item=10 / request)
    except ZeroDivisionError:
        await log.aexception("request failed")


async def main() -> None:
    await asyncio.gather(*map(handle, range(3)))


if __name__ == "__main__":
    asyncio.run(main())
