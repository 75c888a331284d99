"""A backup of the journal by `cp -a` while the hub runs under load: docs/operating.md, "Back up"."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hub.message import LOSS_TAG
from tests.support import HubProcess, Worker, progress, read_messages
from tests.system.test_faults import numbers_of

COPIES = 5


def test_a_copy_of_a_live_journal_holds_what_was_committed_before_it(tmp_path: Path) -> None:
    """
    Every copy holds all messages that were acknowledged before it began, as the original has them. A hub that is
    started on a copy continues its order.
    """
    with HubProcess(tmp_path) as hub:
        workers = [Worker(hub.socket, f"worker.{number}", number) for number in range(2)]
        acknowledged = []
        for number in range(COPIES):
            progress(workers, 500)
            acknowledged.append({worker.tag: worker.acknowledged for worker in workers})
            (tmp_path / f"{number}").mkdir()
            subprocess.run(["cp", "-a", hub.journal, str(tmp_path / f"{number}")], check=True)
        sent = {worker.tag: worker.end() for worker in workers}
        original = hub.messages()
        assert hub.stop() == 0
    assert {tag: numbers_of(original, tag) for tag in sent} == {tag: list(range(count)) for tag, count in sent.items()}
    for number in range(COPIES):
        copied = read_messages(str(tmp_path / f"{number}" / "journal"))
        for tag, committed in acknowledged[number].items():
            assert numbers_of(copied, tag)[:committed] == list(range(committed))
        # What was committed during the copy may be missing, but nothing is there that the original does not have.
        kept = [message for message in copied if message.tag != LOSS_TAG.decode()]
        assert kept == [original[message.sequence - 1] for message in kept]
    assert len(copied) < len(original), "the last copy was made after everything was sent: this proves nothing"
    with HubProcess(tmp_path / f"{COPIES - 1}") as restored:
        worker = Worker(restored.socket, "new")
        progress([worker], 100)
        count = worker.end()
        messages = restored.messages()
        assert restored.stop() == 0
    for tag, acked in acknowledged[-1].items():
        assert numbers_of(messages, tag)[:acked] == list(range(acked))
    for tag, committed in acknowledged[-1].items():
        assert numbers_of(messages, tag)[:committed] == list(range(committed))
    assert numbers_of(messages, "new") == list(range(count))
    assert all(message.sequence > copied[-1].sequence for message in messages if message.tag == "new")
