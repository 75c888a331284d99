"""
The standard library's `logging`, sent to the hub by configuration alone. The hub may start later.

    python -m producers.examples.logging_app && mpsr logs --tag 'shop.*'
"""

import logging
import logging.config

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"hub": {"class": "producers.HubHandler"}},
    "root": {"level": "INFO", "handlers": ["hub"]},
})  # fmt: skip

log = logging.getLogger("shop.orders")


def charge(order: int, amount: float) -> None:
    if amount <= 0:
        raise ValueError(f"amount is {amount}")
    log.info("charged order %d", order, extra={"order": order, "amount": amount})


def main() -> None:
    for order, amount in enumerate((19.9, 5.0, -1.0)):
        try:
            charge(order, amount)
        except ValueError:
            log.exception("order %d failed", order, extra={"order": order})


if __name__ == "__main__":
    main()
