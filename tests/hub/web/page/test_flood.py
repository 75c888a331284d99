"""
The page while more messages arrive than anybody can read: it follows, and its memory is bounded.

`MPSR_FLOOD_S=60` floods for a minute instead of half a second, as a proof needs it; `-s` shows the figures.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from tests.hub.clients import frame_of
from tests.hub.web.page.browser import Browser
from tests.hub.web.page.conftest import Opened
from tests.support import eventually

SECONDS = float(os.environ.get("MPSR_FLOOD_S", "0.5"))
PER_S = 50_000
FRAME = 1_000
HEAP_BYTES_MAX = 150 << 20
LAST = "the flood is over"


def flood(path: str, began: threading.Event) -> float:
    """Send `PER_S` messages a second for `SECONDS`, a frame at a time, then one more. Return the seconds it took."""
    took_ms = [number % 97 / 7 for number in range(FRAME)]
    records = [{"message": f"request {number} done", "level": "info", "took_ms": took_ms[number], "user": "ben"}
               for number in range(FRAME)]  # fmt: skip
    frame = frame_of(None, *records, tag=b"flood.api")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        first = time.monotonic()
        began.set()
        for number in range(int(SECONDS * PER_S / FRAME)):
            time.sleep(max(first + number * FRAME / PER_S - time.monotonic(), 0))
            sock.sendall(frame)
        took_s = time.monotonic() - first
        sock.sendall(frame_of(None, {"message": LAST}, tag=b"flood.api"))
    return took_s


def heap_bytes(page: Browser) -> int:
    """Return how much of the heap of JavaScript is in use, garbage included."""
    return int(page.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"])


def test_the_heap_is_bounded_in_a_flood(page: Browser, opened: Opened) -> None:
    """It follows 50,000 messages a second, shows the newest in between, and ends with the last one."""
    page.wait(lambda: page.text("#live").startswith("Live"))
    began, took = threading.Event(), [0.0]
    sending = threading.Thread(target=lambda: took.__setitem__(0, flood(opened.hub.socket, began)))
    sending.start()
    began.wait()
    heaps, seen = [heap_bytes(page)], set[int]()
    while sending.is_alive():
        sending.join(0.5)
        heaps.append(heap_bytes(page))
        seen.add(page.rows()[-1]["sequence"])
    eventually(lambda: page.rows()[-1]["text"] == LAST, "the last message is shown", timeout=60)
    seen.add(page.rows()[-1]["sequence"])
    heaps.append(heap_bytes(page))
    messages = int(SECONDS * PER_S)
    print(f"{messages} messages in {took[0]:.1f} s, {messages / took[0]:.0f}/s; heap at most {max(heaps) >> 20} MiB, "
          f"{heaps[0] >> 20} MiB before, {heaps[-1] >> 20} MiB after; {len(seen)} screens seen")  # fmt: skip
    assert max(heaps) < HEAP_BYTES_MAX
    assert len(seen) > 1
    assert "not shown" in page.text("#status")
    assert page.js("return document.querySelectorAll('#list .row').length") < 100
