"""Staying with a process: signals passed on, and exit codes. The process is a plain child."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.cli.call import Interrupted
from skerry.cli.foreground import NUMBERS, OURS, Signals

FOLLOW = (sys.executable, str(Path(__file__).with_name("follow.py")))
# Prints each signal it gets by number, and ends at TERM with 5.
REPORTER = """
import signal
numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
while (got := signal.sigwaitinfo(numbers).si_signo) != signal.SIGTERM:
    print(got, flush=True)
raise SystemExit(5)
"""


def start(*words, **options):
    return subprocess.Popen([*FOLLOW, *words], text=True, stdout=subprocess.PIPE, **options)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)],
)
def test_exit_code(script, code):
    """lifecycle 92, 98, P"""
    with start("sh", "-c", script) as process:
        assert process.wait(10) == code


def test_every_signal_is_passed_on():
    """All but WINCH, which resizes, and those that OURS gives a reason for."""
    passed = [n for n in NUMBERS if n not in OURS and n not in (signal.SIGWINCH, signal.SIGTERM)]
    assert {signal.SIGRTMAX, signal.SIGTSTP, signal.SIGABRT, signal.SIGCONT} <= set(passed)
    with start(sys.executable, "-c", REPORTER) as process:
        assert process.stdout.readline() == "ready\n"
        for number in passed:
            process.send_signal(number)
            assert process.stdout.readline() == f"{int(number)}\n"
        for number in (signal.SIGCHLD, signal.SIGURG, signal.SIGPIPE, signal.SIGWINCH):
            process.send_signal(number)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == f"{int(signal.SIGUSR1)}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 5


def test_signal_that_kills():
    with start("sh", "-c", "echo ready; exec sleep 100") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_stdio_is_the_callers():
    """Without a terminal nothing is relayed: the process has our descriptors."""
    done = subprocess.run([*FOLLOW, "cat"], input=b"x" * 300000, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, b"x" * 300000)


@pytest.fixture
def dispositions():
    kept = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in kept.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signal_before_there_is_a_process(dispositions, number):
    """It ends the work once; a second one does not break into the cleaning up."""
    with Signals():
        with pytest.raises(Interrupted) as interrupted:
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert interrupted.value.signal == number


def test_harmless_signal_before_waits(dispositions):
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        signals.forward()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.take() == bytes([signal.SIGUSR1, signal.SIGTERM])
        assert signals.take() == b""


def test_interrupted_run_cleans_up(core, skerry, dispositions):
    """lifecycle 93; exit code 128 + signal."""

    def interrupt():
        os.kill(os.getpid(), signal.SIGTERM)

    core.during["create"] = interrupt
    assert skerry("run", "c1") == (143, "", "skerry run failed: interrupted\n")
    assert core.names() == ["create"]
