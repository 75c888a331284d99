"""
Realistic logs, made up from a seed: what a small web service writes in a working day.

Half of the messages are access lines of nginx, the rest the application's JSON, its debug lines, syslog, and now and
then a traceback. Addresses, ids and times are as random as real ones, and so is what is often the same: paths, agents,
users. Few messages are alike, so the corpus says what compression saves.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from hub import entries as codec
from hub.message import Batch, Peer

START_S = 1_790_000_000
Record = dict[str, Any]
_AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile",
    "curl/8.14.1",
    "kube-probe/1.33",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
]
_PATHS = ["/", "/login", "/api/v1/orders", "/api/v1/orders/{id}", "/api/v1/users/{id}/cart", "/static/app.{hex}.js"]
_PATHS += ["/static/img/{id}.webp", "/search?q={word}&page={digit}", "/healthz", "/api/v2/products/{id}?expand=price"]
_WORDS = ["shoes", "lamp", "table", "garden", "summer", "winter", "red", "blue", "large", "small", "wooden", "glass"]
_WORDS += ["travel", "kitchen", "book"]
_MODULES = ["orders.views", "orders.tasks", "billing.gateway", "accounts.auth", "catalog.search", "core.cache"]
_MESSAGES = ["order created", "payment authorised", "cart updated", "login succeeded", "search done", "mail queued"]
_UNITS = ["sshd", "systemd", "kernel", "cron", "dhclient", "postfix/smtpd", "sudo"]
_ERRORS = [
    ("KeyError", "'currency'"),
    ("TimeoutError", "upstream did not answer within 5.0 s"),
    ("ValueError", "invalid literal for int() with base 10: ''"),
    ("OperationalError", "server closed the connection unexpectedly"),
]


def batches(seed: int, messages: int) -> Iterator[Batch]:
    """Yield batches of one tag each, with *messages* messages or a few more."""
    rng, now, made = random.Random(seed), float(START_S), 0
    addresses = [
        f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(400)
    ]
    kinds: list[tuple[bytes, Callable[[random.Random, float, list[str]], Record], int, int]] = [
        (b"nginx.access", _access, 50, 60),
        (b"app.web", _application, 25, 40),
        (b"debug.app", _debug, 12, 80),
        (b"syslog", _syslog, 11, 6),
        (b"app.error", _traceback, 2, 1),
    ]
    weights = [share / most for _, _, share, most in kinds]
    while made < messages:
        tag, make, _, most = rng.choices(kinds, weights)[0]
        count = rng.randrange(1, 2 * most)
        parts = []
        for _ in range(count):
            now += rng.expovariate(200)
            record = make(rng, now, addresses)
            parts.append(codec.stamp(int(now * codec.NS)) + msgspec.msgpack.encode(record))
        yield Batch(tag, codec.join(parts, count), count, None, Peer(rng.randrange(900, 910), 33, 33, "worker", True))
        made += count


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _path(rng: random.Random) -> str:
    return rng.choice(_PATHS).format(
        id=rng.randrange(10_000, 900_000), hex=_hex(rng, 8), word=rng.choice(_WORDS), digit=rng.randrange(9)
    )


def _access(rng: random.Random, now: float, addresses: list[str]) -> Record:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now))
    status = rng.choices([200, 304, 302, 404, 500, 502], [80, 8, 5, 5, 1, 1])[0]
    size = rng.randrange(200, 60_000) if status == 200 else rng.choice([0, 153, 548])
    request = f"{rng.choices(['GET', 'POST', 'PUT'], [85, 12, 3])[0]} {_path(rng)} HTTP/{rng.choice(['1.1', '2.0'])}"
    referrer = rng.choice(["-", "-", "https://shop.example/", f"https://shop.example{_path(rng)}"])
    line = f'{rng.choice(addresses)} - - [{when}] "{request}" {status} {size} "{referrer}" "{rng.choice(_AGENTS)}"'
    return {"message": f"{line} {rng.expovariate(20):.3f}"}


def _application(rng: random.Random, now: float, addresses: list[str]) -> Record:
    return {
        "level": rng.choices(["info", "warning", "error"], [92, 6, 2])[0],
        "logger": rng.choice(_MODULES),
        "message": rng.choice(_MESSAGES),
        "request_id": _hex(rng, 32),
        "user_id": rng.randrange(1, 50_000),
        "duration_ms": round(rng.expovariate(1 / 40), 2),
        "path": _path(rng),
        "client": rng.choice(addresses),
        "items": rng.randrange(1, 9),
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{rng.randrange(1_000_000):06d}Z",
    }


def _debug(rng: random.Random, now: float, addresses: list[str]) -> Record:
    took, key = rng.expovariate(500), f"product:{rng.randrange(10_000, 900_000)}:v{rng.randrange(1, 4)}"
    text = rng.choice(
        [
            f"cache {rng.choice(['hit', 'miss'])} key={key} took={took:.6f}s",
            f"SELECT id, name, price FROM products WHERE id = {rng.randrange(10_000, 900_000)} ({took * 1000:.3f} ms)",
            f"pool: {rng.randrange(1, 20)} of 20 connections in use, waited {took:.6f}s",
            f"render template=product/{rng.choice(_WORDS)}.html bytes={rng.randrange(2_000, 90_000)}",
        ]
    )
    return {"level": "debug", "logger": rng.choice(_MODULES), "message": text}


def _syslog(rng: random.Random, now: float, addresses: list[str]) -> Record:
    unit = rng.choice(_UNITS)
    text = {
        "sshd": f"Failed password for invalid user {rng.choice(_WORDS)} from {rng.choice(addresses)} port "
        f"{rng.randrange(1024, 65_536)} ssh2",
        "systemd": f"Started session-{rng.randrange(9_000)}.scope - Session {rng.randrange(9_000)} of User deploy.",
        "kernel": f"[{rng.uniform(1, 1e6):.6f}] [UFW BLOCK] IN=eth0 OUT= SRC={rng.choice(addresses)} "
        f"LEN={rng.randrange(40, 1500)} TTL={rng.randrange(30, 255)} ID={rng.randrange(65_536)} PROTO=TCP "
        f"SPT={rng.randrange(65_536)} DPT={rng.choice([22, 23, 3389])}",
        "cron": f"(www-data) CMD (/usr/local/bin/cleanup --older-than {rng.randrange(1, 40)}d)",
        "dhclient": f"DHCPREQUEST for {rng.choice(addresses)} on eth0 to 10.0.0.1 port 67",
        "postfix/smtpd": f"{_hex(rng, 10).upper()}: client=mail.example[{rng.choice(addresses)}]",
        "sudo": f"deploy : TTY=pts/{rng.randrange(4)} ; PWD=/srv/app ; COMMAND=/usr/bin/systemctl reload web",
    }[unit]
    return {
        "facility": "daemon",
        "level": "info",
        "host": "web-1",
        "ident": unit,
        "pid": rng.randrange(300, 40_000),
        "message": text,
    }


def _traceback(rng: random.Random, now: float, addresses: list[str]) -> Record:
    name, text = rng.choice(_ERRORS)
    frames = "".join(
        f'  File "/srv/app/{rng.choice(_MODULES).replace(".", "/")}.py", line {rng.randrange(10, 900)}, in '
        f"{rng.choice(['get', 'post', 'handle'])}\n    return self.{rng.choice(_WORDS)}(request)\n"
        for _ in range(rng.randrange(4, 14))
    )
    return {
        "level": "error",
        "logger": rng.choice(_MODULES),
        "message": f"unhandled {name}",
        "request_id": _hex(rng, 32),
        "exception": f"Traceback (most recent call last):\n{frames}{name}: {text}\n",
    }
