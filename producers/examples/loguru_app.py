"""
loguru with the handler as a sink. `pip install loguru`.

    python -m producers.examples.loguru_app && mpsr logs --where order=2
"""

from loguru import logger

from producers import HubHandler

logger.remove()  # the default sink, standard error
logger.add(HubHandler(tag="shop"), format="{message}")


@logger.catch
def charge(order: int) -> None:
    logger.bind(order=order).info("charging order {}", order)
    if order == 2:
        raise ValueError("the card is refused")


def main() -> None:
    with logger.contextualize(customer="ada"):
        for order in range(3):
            charge(order)


if __name__ == "__main__":
    main()
