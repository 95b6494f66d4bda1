import os
import signal

import pytest
from fake_core import Core

from skerry.cli.main import main


@pytest.fixture
def core(monkeypatch):
    """The command line with a fake core under it."""
    core = Core()
    core.install(monkeypatch)
    core.pidfd = os.open("/dev/null", os.O_RDONLY)
    yield core
    os.close(core.pidfd)


@pytest.fixture
def skerry(capfd):
    """Call the command line: `code, stdout, stderr = skerry("kill", "c1")`."""
    kept = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def call(*words):
        capfd.readouterr()
        code = main(list(words))
        return (code, *capfd.readouterr())

    yield call
    for number, handler in kept.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
