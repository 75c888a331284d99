"""`mpsr completion`: the script of each shell, and what it completes."""

from __future__ import annotations

import os

import pytest

from tests.support import HubProcess, mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """It is the one of the shell, and it asks this command."""
    done = mpsr("completion", shell)
    assert (done.returncode, b"_MPSR_COMPLETE" in done.stdout) == (0, True)


def test_completion_knows_levels_and_tags(hub: HubProcess) -> None:
    """Values of `--level`, and of `--tag` from the journal, are completed; without a journal there are none."""
    mpsr("send", "--socket", hub.socket, "--tag", "app.web", "x")
    mpsr("send", "--socket", hub.socket, "--tag", "other", "x")

    def complete(words: str, journal: str = hub.journal, shell: str = "bash") -> list[bytes]:
        env = {
            **os.environ, "MPSR_JOURNAL": journal, "_MPSR_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": f"mpsr {words}", "COMP_CWORD": str(len(words.split())),
        }  # fmt: skip
        return [line.partition(b",")[2] for line in mpsr(env=env).stdout.splitlines() if line]

    assert complete("logs --level w") == [b"warning"]
    assert complete("logs --tag app") == [b"app.web"]
    assert complete("send -t o") == [b"other"]
    mpsr("send", "--socket", hub.socket, "--tag", "two 'words'", "x")
    assert complete("logs -t t") == [rb"two\ \'words\'"]
    assert complete("call p") == [b"ping", b"peers"]
    assert complete("hub --durability r") == [b"relaxed"]
    assert complete("hub --log-level W") == [b"warning"]
    assert complete("hub --journal-size 1") == []
    assert complete("logs --tag o", journal=f"{hub.journal}/none") == []
    assert b"logs" in complete("lo")
