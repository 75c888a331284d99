"""hub.web.ingest: what requests bring is stored before it is acknowledged, once, and within the rules."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from hub.access import Access, Rule, Rules
from hub.errors import JournalUnavailable
from hub.limits import Limit
from hub.message import LOSS_TAG
from hub.web import body, ingest
from hub.web.body import Refused
from hub.web.ingest import RequestId, retry_after
from hub.wire import otlprecord
from hub.wire.chunkid import unpack_own
from tests.hub.clients import Run, both_loops, until
from tests.hub.web.serving import BEARER, Reply, Serving, serving

NDJSON = "application/x-ndjson"


@both_loops
def test_bodies_are_stored(run: Run, tmp_path: Path) -> None:
    """Lines, NDJSON and arrays are stored under their tags, from the process that the kernel reports."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            assert (await here.post("/messages", "one\ntwo")).json == {"stored": 2}
            assert (await here.post("/messages?tag=dflt", '{"n":1}\n{"tag":"own","n":2}\n', NDJSON)).json == {
                "stored": 2
            }
            assert (await here.post("/messages", '[{"n":3}, "text"]', "application/json")).json == {"stored": 2}
            assert (await here.post("/messages", b"")).json == {"stored": 0}
            assert [message.tag for message in here.got] == ["text", "text", "dflt", "own", "json", "text"]
            assert here.records[2:5] == [{"n": 1}, {"n": 2}, {"n": 3}]
            peer = here.got[0].peer
            assert (peer.pid, peer.uid, peer.verified) == (os.getpid(), os.geteuid(), True)
            assert here.source.tally.messages == 6

    run(main())


def test_the_tag_of_the_table(tmp_path: Path) -> None:
    """Messages without a tag have that of the table, unless the request names one."""

    async def main() -> None:
        async with serving(tmp_path, tag="web") as here:
            await here.post("/messages", "a")
            await here.post("/messages?tag=mine", "a")
            assert (await here.post("/messages?tag=", "a")).status == 400
            assert [message.tag for message in here.got] == ["web", "mine"]

    asyncio.run(main())


def test_an_answer_comes_after_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is committed, nothing is answered; a client that leaves does not undo what it sent."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            append, may_commit = here.journal.append, asyncio.Event()

            async def wait_and_append(batches: Any) -> Any:
                await may_commit.wait()
                return await append(batches)

            monkeypatch.setattr(here.journal, "append", wait_and_append)
            posting = asyncio.create_task(here.post("/messages", "first"))
            reader, writer = await here.raw(b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nleft")
            await until(lambda: here.source.tally.messages == 2)
            assert not posting.done()
            writer.close()
            may_commit.set()
            assert (await posting).json == {"stored": 1}
            await until(lambda: len(here.got) == 2)
            assert await reader.read() == b""

    asyncio.run(main())


def test_resends_are_stored_once(tmp_path: Path) -> None:
    """A request with the same id is stored once, whatever its connection, also with several tags and losses."""
    body = '{"tag":"a","n":1}\n{"tag":"b","n":2}\n{"tag":"a","n":3}\n'

    async def main() -> None:
        async with serving(tmp_path) as here:
            for counter in ("7", "7", "8", "7"):
                assert (await here.post("/messages", body, NDJSON, X_Mpsr_Id=f"s/{counter}")).json == {"stored": 3}
            assert (await here.post("/messages", body, NDJSON, X_Mpsr_Id="other/7")).json == {"stored": 3}
            assert [message.record["n"] for message in here.got] == [1, 2, 3] * 3
        async with serving(tmp_path) as here:  # after a restart, too
            await here.post("/messages", body, NDJSON, X_Mpsr_Id="s/8")
            assert len(here.got) == 9

    asyncio.run(main())


def test_the_rest_of_a_request_that_was_cut_off(tmp_path: Path) -> None:
    """Of a request whose first batches were committed before a kill, a resend stores the others."""
    body = '{"tag":"a","n":1}\n{"tag":"b","n":2}\n'

    async def main() -> None:
        async with serving(tmp_path) as here:
            await here.post("/messages", body.splitlines()[0], NDJSON, X_Mpsr_Id="s/1")
            assert (await here.post("/messages", body, NDJSON, X_Mpsr_Id="s/1")).json == {"stored": 2}
            assert [message.record["n"] for message in here.got] == [1, 2]

    asyncio.run(main())


@pytest.mark.parametrize(
    "header", ["", "s", "s/", "/1", "s/x", "s/-1", f"s/{1 << 44}", "a/b/1", "ö/1", "x" * 129 + "/1"]
)
def test_wrong_ids(header: str) -> None:
    with pytest.raises(Refused, match="session/counter"):
        RequestId.parse(header)


def test_ids_are_those_of_one_session() -> None:
    """Numbers rise with the counter and the place in the request; a request cannot reach into the next one."""
    first, second = RequestId.parse("s/1"), RequestId.parse("s/2")
    assert first.session == second.session
    assert RequestId.parse("t/1").session != first.session
    assert RequestId.parse(f"s/{ingest.COUNTER_MAX}").counter == ingest.COUNTER_MAX
    last = (1 << ingest.NUMBER_BITS) - 1
    assert last + 1 >= body.ITEMS_MAX
    assert unpack_own(first.chunk_id(last)) < unpack_own(second.chunk_id(0))  # type: ignore[operator]  # both are own
    assert unpack_own(first.chunk_id(0)) < unpack_own(first.chunk_id(1))  # type: ignore[operator]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_body_that_changes_its_tag_too_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """Each change costs half a kilobyte of memory, so their number is bounded; nothing of such a body is stored."""
    monkeypatch.setattr(body, "ITEMS_MAX", 3)

    async def post(here: Serving, count: int) -> Reply:
        lines = b"".join(b'{"tag":"t%d"}\n' % n for n in range(count))
        data = gzip.compress(lines) if packed else lines
        return await here.post("/messages", data, NDJSON, Content_Encoding="gzip" if packed else "identity")

    async def main() -> None:
        async with serving(tmp_path) as here:
            reply = await post(here, 4)
            assert (reply.status, "changes more than 3 times" in reply.json["error"]) == (413, True)
            assert (await post(here, 3)).json == {"stored": 3}
            assert [message.tag for message in here.got] == ["t0", "t1", "t2"]

    asyncio.run(main())


def test_compressed_bodies(tmp_path: Path) -> None:
    """gzip is opened, also of a large body; garbage and bombs are refused, and nothing of them is stored."""
    large = b"".join(b"line %d of a large body\n" % n for n in range(100_000))
    bomb = gzip.compress(gzip.compress(bytes(200 << 20)))

    async def main() -> None:
        async with serving(tmp_path) as here:
            reply = await here.post("/messages", gzip.compress(large), Content_Encoding="gzip")
            assert reply.json == {"stored": 100_000}
            assert (await here.post("/messages", io.BytesIO(large))).json == {"stored": 100_000}
            assert (await here.post("/messages", b"garbage", Content_Encoding="gzip")).status == 400
            assert (await here.post("/messages", gzip.decompress(bomb), Content_Encoding="gzip")).status == 413
            assert (await here.post("/messages", b"x", Content_Encoding="br")).status == 415
            assert here.journal.last_sequence == 200_000

    asyncio.run(main())


def test_large_bodies_are_refused(tmp_path: Path) -> None:
    """A body over the limit is refused: by its declared length, or when it is reached."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    async def main() -> None:
        async with serving(tmp_path, frame_bytes_max=50_000) as here:
            assert (await here.post("/messages", b"x" * 50_001)).status == 413
            assert (await here.post("/messages", chunks())).status == 413
            array = "[" + ",".join(["1"] * 3000) + "]"
            assert (await here.post("/messages", array, "application/json")).json == {"stored": 3000}
            reply = await here.post("/messages", gzip.compress(b"x" * 50_001), Content_Encoding="gzip")
            assert reply.status == 413

    asyncio.run(main())


def test_what_may_not_send(tmp_path: Path) -> None:
    """A peer that may not send is refused, and counted; also one whose rights are taken meanwhile."""
    access = Access({"send": Rules(deny=(Rule.parse(f"uid:{os.geteuid()}"),))})

    async def main() -> None:
        async with serving(tmp_path, access=access) as here:
            assert (await here.post("/messages", "x")).status == 403
            assert here.endpoint.metrics.refused == 1
            access.change({})
            here.endpoint.limits.change([Limit(messages_per_s=1)])
            assert (await here.post("/messages", "x\ny")).status == 200
            posting = asyncio.create_task(here.post("/messages", "late"))  # it waits for the limit
            await until(lambda: here.budget.loose_bytes > 0)
            access.change({"send": Rules(deny=(Rule.parse("all"),))})
            assert (await posting).status == 403
            assert [record for record in here.records if "message" in record] == [{"message": "x"}, {"message": "y"}]

    asyncio.run(main())


def test_rate_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where messages would be dropped, a request is refused with the time to wait; else it waits, but not for ever."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            here.endpoint.limits.change(
                [Limit("text", messages_per_s=0.5, when="drop"), Limit("own", bytes_per_s=1000)]
            )
            assert (await here.post("/messages", "a\nb\nc")).status == 200
            reply = await here.post("/messages", "d")
            assert (reply.status, int(reply.headers["Retry-After"]) > 0) == (429, True)
            assert (await here.post("/messages", '{"tag":"free"}', NDJSON)).status == 200
            body = json.dumps({"tag": "own", "text": "x" * 1010})
            assert (await here.post("/messages", body, NDJSON)).status == 200
            assert (await here.post("/messages", body, NDJSON)).status == 200  # it has waited
            monkeypatch.setattr(ingest, "BLOCKED_S", 0.0)
            assert (await here.post("/messages", body, NDJSON)).status == 429
            assert not [message for message in here.got if message.tag == LOSS_TAG.decode()]
            assert here.endpoint.metrics.limited == 0

    asyncio.run(main())


def test_while_the_hub_stops(tmp_path: Path) -> None:
    """What cannot be stored any more is not acknowledged."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            here.endpoint.inbox.close()
            reply = await here.post("/messages", "late")
            assert (reply.status, reply.headers["Retry-After"]) == (503, "1")

    asyncio.run(main())


def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk fails the request waits, and `/readyz` says why; then it is stored."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            monkeypatch.setattr("hub.receiver.RETRY_S", 0.01)
            assert (await here.get("/readyz")).status == 200

            def fail(_: object) -> None:
                raise JournalUnavailable(here.journal.path, "full")

            writer = here.journal._writer
            with monkeypatch.context() as broken:
                broken.setattr(writer, "append", fail)
                posting = asyncio.create_task(here.post("/messages", "kept"))
                await until(lambda: here.journal.is_failing)
                assert (await here.get("/readyz")).status == 503
                assert not posting.done()
            assert (await posting).json == {"stored": 1}
            assert (await here.get("/readyz")).status == 200

    asyncio.run(main())


def logs(count: int, size: int = 1) -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    scope = made.resource_logs.add().scope_logs.add()
    for n in range(count):
        scope.log_records.add().body.string_value = f"{n:0{size}d}"
    return made


@both_loops
def test_otlp(run: Run, tmp_path: Path) -> None:
    """Both formats are stored and answered in kind; what is rejected is reported; garbage is a Status."""
    protobuf, as_json = "application/x-protobuf", "application/json"

    async def main() -> None:
        async with serving(tmp_path, tag="telemetry") as here:
            reply = await here.post("/v1/logs", logs(3).SerializeToString(), protobuf)
            assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, b"", protobuf)
            body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "j"}}]}]}]})
            assert (await here.post("/v1/logs", body, as_json)).json == {}
            packed = gzip.compress(logs(2).SerializeToString())
            assert (await here.post("/v1/logs", packed, protobuf, Content_Encoding="gzip")).status == 200
            assert [record["message"] for record in here.records] == ["0", "1", "2", "j", "0", "1"]
            assert {message.tag for message in here.got} == {"telemetry"}
            reply = await here.post("/v1/logs", logs(2, otlprecord.RECORD_BYTES_MAX).SerializeToString(), protobuf)
            partial = ExportLogsServiceResponse.FromString(reply.body).partial_success
            assert (reply.status, partial.rejected_log_records) == (200, 2)
            assert "more than" in partial.error_message
            reply = await here.post("/v1/logs", b"garbage", protobuf)
            assert (reply.status, reply.body[:2], reply.headers["Content-Type"]) == (400, b"\x08\x03", protobuf)
            reply = await here.post("/v1/logs", b"garbage", as_json)
            assert (reply.status, reply.json["code"]) == (400, 3)
            assert (await here.post("/v1/logs", b"", "text/plain")).status == 415

    run(main())


def test_over_tcp(tmp_path: Path) -> None:
    """At an address the token is needed; the writer is the host, which the kernel does not vouch for."""

    async def main() -> None:
        async with serving(tmp_path, is_tcp=True) as here:
            assert (await here.post("/messages", "x")).status == 401
            assert (await here.post("/messages", "x", **BEARER)).json == {"stored": 1}
            peer = here.got[0].peer
            assert (peer.comm, peer.verified, peer.pid) == ("127.0.0.1", False, 0)

    asyncio.run(main())


def test_many_at_once(tmp_path: Path) -> None:
    """Requests of many connections are stored, each in its order."""

    async def post(here: Serving, name: str) -> None:
        for n in range(20):
            body = "".join(json.dumps({"tag": name, "n": n * 10 + k}) + "\n" for k in range(10))
            assert (await here.post("/messages", body, NDJSON)).json == {"stored": 10}

    async def main() -> None:
        async with serving(tmp_path) as here:
            await asyncio.gather(*(post(here, f"p{n}") for n in range(20)))
            for n in range(20):
                mine = [message.record["n"] for message in here.got if message.tag == f"p{n}"]
                assert mine == [*range(200)]

    asyncio.run(main())


def test_retry_after() -> None:
    assert [retry_after(seconds) for seconds in (0.0, 0.2, 1.0, 1.1)] == ["1", "1", "1", "2"]
