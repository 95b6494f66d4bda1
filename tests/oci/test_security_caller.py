"""The caller's signals are an accident: they decide nothing and reach no container (P05, P06, threat model 6)."""

import os
import signal
import subprocess

import pytest
from support.box import Box
from support.spec import fresh_spec, shell

NAMES = ["CHLD", "TERM", "INT", "HUP", "PIPE", "USR1", "XFSZ"]


def run(box: Box, words: list[str], spec: dict) -> subprocess.Popen:
    """Run a container in the foreground by way of env(1), which can ignore and block signals."""
    line = [box.runtime.binary, "--root", str(box.runtime.root), "run", "--bundle", str(box.bundle(spec)), box.new_id()]
    return subprocess.Popen(["env", *words, *line], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["ignore", "block"])
def test_exit_code_and_state_of_signals(box: Box, how: str) -> None:
    """P05, P15: a caller that ignores SIGCHLD gets the exit code all the same."""
    words = [f"--{how}-signal={','.join(NAMES)}"]
    process = run(box, words, shell("grep -E '^Sig(Ign|Blk):' /proc/self/status; exit 7"))
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 7
    assert {line.split()[1] for line in out.splitlines()} == {"0" * 16}


@pytest.mark.skerry_only("a blocked signal is passed on as any other; Go leaves it blocked")
def test_blocked_signals_arrive(box: Box) -> None:
    """P06: and so the container can be stopped."""
    process = run(box, ["--block-signal=TERM"], fresh_spec("probe", "park"))
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100).startswith(b"ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, "probe ends so when it gets one"
    process.stdout.close()
