"""What a receiver of a peer does on a thread of its own: it prints ``ready``, and answers each line with its count."""

import os
import sys


def tell_count(count: list[int]) -> None:
    """Print ``ready``, then the first element of *count* for each line of standard input."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(count[0], flush=True)
    os._exit(0)  # the process that asked has ended
