"""
A connection to NATS servers. nats-py is imported only here.

Always true:
- no header that a publisher may have written breaks the connection: what cannot be read is a message without headers;
- a connection that is lost is not made again: what was under way is unknown then, so its owner begins anew;
- a connection to ``tls://`` is encrypted before anything is sent, whatever the server says: nats-py alone would send
  the password as it is if the server, or somebody on the way, does not ask for TLS;
- a connection on which the server does not permit what its owner does is lost: it would be silence otherwise;
- what nats-py or a server reports is a `NatsFault`, whose text is for people.

Not here: addresses and secrets (hub.natsplace), streams (hub.sources.jetstream).
Source: nats-py 2.16; ADR-1 and ADR-13 of NATS (the JetStream API, pull requests), ADR-4 (headers).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from hub.errors import MpsrError
from hub.natsplace import NatsPlace, options_of
from hub.secretfile import Unusable

CONNECT_S = 5.0
CLOSE_S = 1.0
"""A server that refuses TLS may never confirm the end."""
_TRIES, _PAUSE_S = 2, 0.1
"""How often each server is tried before `open` fails, and the pause before the next."""
REPLY_S = 5.0
PING_S, PINGS_MAX = 5.0, 2
"""
How often the server is asked whether it is there, and how many questions may be without an answer: a server that hangs,
or whose network is gone, closes no connection. It is given up after 15 s.
"""
_FORBIDDEN = re.compile("nats: permissions violation", re.IGNORECASE)
NO_STREAM, NO_CONSUMER, NO_MESSAGE = 10059, 10014, 10037


class NatsFault(MpsrError):
    """The servers cannot be reached, or refuse something. *code* is the error code of JetStream, if it is one."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code: int = code


class _Client(Client):
    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and "tls" in self.options:
            if not info.get("tls_required") and not info.get("tls_available"):
                raise nats.errors.Error("the server has no TLS (nats:// connects without it)")
            info["tls_required"] = True  # read after this
        await super()._process_info(info, initial_connection)

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except Exception:  # noqa: BLE001  an exception here would end the reading of the connection
            return None


class NatsClient:
    """Connected from `open` to `close`. *on_lost* is called when the connection is lost."""

    def __init__(self, name: str, on_lost: Callable[[], None]) -> None:
        self._name = name
        self._on_lost = on_lost
        self._client = _Client()
        self._last_error = ""
        self._forbidden = ""
        self._asking: set[asyncio.Timeout] = set()
        self._is_open = False

    async def open(self, place: NatsPlace) -> None:
        """Connect to one of the servers. Raises NatsFault."""
        try:
            options = options_of(place)
        except Unusable as error:
            raise NatsFault(str(error)) from error
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._client.connect(
                    **options,
                    name=self._name,
                    connect_timeout=2,
                    max_reconnect_attempts=_TRIES,
                    reconnect_time_wait=_PAUSE_S,  # type: ignore[arg-type]  # a float is as good
                    ping_interval=PING_S,  # type: ignore[arg-type]  # the same
                    max_outstanding_pings=PINGS_MAX,
                    error_cb=self._note_error,
                    disconnected_cb=self._note_lost,
                )
        except Exception as error:
            await self.close()
            raise NatsFault(f"no connection: {self._last_error or _text_of(error)}") from error
        self._is_open, self._last_error = True, ""

    async def close(self) -> None:
        """Send what is waiting, and close the connection."""
        self._is_open = False
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._client.close()
        except Exception:  # noqa: BLE001  nobody needs it any more
            return

    @property
    def lost(self) -> NatsFault:
        """The fault of a connection that is lost."""
        if self._forbidden:
            return NatsFault(self._forbidden)
        return NatsFault(f"the connection is lost: {self._last_error or 'no server answers'}")

    @property
    def payload_bytes_max(self) -> int:
        """The largest message that the server accepts."""
        return self._client.max_payload

    @property
    def is_clustered(self) -> bool:
        """Whether the server belongs to a cluster, so that a stream can have replicas."""
        return bool(self._client._server_info.get("cluster"))

    async def subscribe(self, callback: Callable[[Msg], None]) -> str:
        """Call *callback* for each message to a token below a new inbox; return the inbox. Raises NatsFault."""

        async def take(message: Msg) -> None:
            callback(message)

        try:
            inbox = self._client.new_inbox()
            await self._client.subscribe(f"{inbox}.*", cb=take)
        except Exception as error:
            raise NatsFault(_text_of(error)) from error
        return inbox

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a message. Raises NatsFault."""
        try:
            await self._client.publish(subject, payload, reply=reply, headers=None if headers is None else {**headers})
        except Exception as error:
            raise NatsFault(_text_of(error)) from error

    async def send(self, publications: bytes) -> None:
        """Send what `publication` has made, in a tenth of the time that `publish` takes for each. Raises NatsFault."""
        client = self._client
        if not client.is_connected:
            raise self.lost
        try:
            await client._send_command(publications)
            await client._flush_pending()
        except Exception as error:
            raise NatsFault(_text_of(error)) from error

    async def flush(self) -> None:
        """Return when the server has everything. Raises NatsFault."""
        try:
            await self._client.flush(timeout=int(CLOSE_S))
        except Exception as error:
            raise NatsFault(_text_of(error)) from error

    async def ask(self, what: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call JetStream's API. Raises NatsFault, with JetStream's own code if it has refused."""
        payload = b"" if request is None else json.dumps(request).encode()
        limit = asyncio.timeout(REPLY_S)
        try:
            async with limit:
                self._asking.add(limit)
                self._end_if_forbidden()
                reply = await self._client.request(f"$JS.API.{what}", payload, timeout=REPLY_S)
        except nats.errors.NoRespondersError as error:
            raise NatsFault("the server has no JetStream, or its JetStream has no leader now") from error
        except Exception as error:
            raise NatsFault(self._forbidden or f"JetStream does not answer: {_text_of(error)}") from error
        finally:
            self._asking.discard(limit)
        return answer_in(reply.data)

    def _end_if_forbidden(self) -> None:
        """
        End all requests if the server has not permitted something: it does not say which request that was, and answers
        none that it does not permit.
        """
        if self._forbidden:
            for limit in self._asking:
                limit.reschedule(0.0)

    async def _note_error(self, error: Exception) -> None:
        if not (isinstance(error, OSError) and self._last_error):  # a server that refuses says why, and resets
            self._last_error = _text_of(error)
        if _FORBIDDEN.match(str(error)):
            self._forbidden = f"the server does not permit it: {_text_of(error)}"
            self._end_if_forbidden()
            await self._note_lost()

    async def _note_lost(self) -> None:
        if self._is_open:
            self._on_lost()


def publication(subject: str, payload: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a message without a reply as the protocol has it. Subject and headers are ours: they are not checked."""
    head = b"NATS/1.0\r\n%b\r\n" % "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject.encode(), len(head), len(head) + len(payload), head, payload)


def answer_in(data: bytes) -> dict[str, Any]:
    """Return the answer of JetStream in *data*. Raises NatsFault if it is an error."""
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise NatsFault("JetStream's answer cannot be read") from error
    if not isinstance(answer, dict):
        raise NatsFault("JetStream's answer cannot be read")
    fault = answer.get("error")
    if isinstance(fault, dict):
        raise NatsFault(str(fault.get("description", "refused")), int(fault.get("err_code", 0)))
    return answer


def _text_of(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, TimeoutError) and not str(error):
        return "the server does not answer"
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__
