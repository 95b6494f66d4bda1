"""What counts as ready, and the spec of a program that can say so: lifecycle 131."""

import copy

import pytest

from skerry import creation, readiness
from skerry.spec.validate import check_spec

SPEC = {
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/", "env": ["A=1", "NOTIFY_SOCKET=/theirs", "NOTIFY_SOCKETS=2"]},
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/run", "type": "tmpfs", "source": "tmpfs"}],
    "linux": {"namespaces": [{"type": "mount"}]},
}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"READY=1", True),
        (b"READY=1\n", True),
        (b"STATUS=Done.\nREADY=1\nMAINPID=7", True),
        (b"", False),
        (b"READY=0", False),
        (b"READY=11", False),
        (b" READY=1", False),
        (b"STATUS=READY=1", False),
        (b"READY=1\0", False),
        (b"ready=1", False),
        (b"\xff\n\xfe", False),
    ],
)
def test_is_ready(message, expected):
    """lifecycle 131: sd_notify(3), assignments on lines of their own."""
    assert readiness.is_ready(message) is expected


def test_offer():
    """lifecycle 131: one more mount, the last, and one variable of that name; the caller's spec is left alone."""
    before = copy.deepcopy(SPEC)
    spec = readiness.offer(SPEC, "/run/x/a/notify")
    assert before == SPEC
    assert spec["process"]["env"] == ["A=1", "NOTIFY_SOCKETS=2", "NOTIFY_SOCKET=/run/notify/notify.sock"]
    assert spec["mounts"][:-1] == SPEC["mounts"]
    mount = spec["mounts"][-1]
    assert (mount["destination"], mount["source"]) == ("/run/notify", "/run/x/a/notify")
    assert {"bind", "ro", "nosuid", "nodev", "noexec"} <= set(mount["options"])
    assert check_spec(spec) == check_spec(SPEC)


class Log:
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


class Place:
    def __init__(self, isolation):
        self.isolation = isolation


@pytest.mark.parametrize(
    ("isolation", "process", "offered", "warnings"),
    [
        ("process", True, True, 0),
        ("process", False, False, 0),
        ("vm", True, False, 1),
    ],
)
def test_who_is_offered_a_socket(isolation, process, offered, warnings):
    """lifecycle 131: a program whose host is ours."""
    store, log = type("Store", (), {"root": "/r"}), Log()
    spec = SPEC if process else {**SPEC, "process": None}
    found, is_offered = creation._offer_socket(store, "a", spec, Place(isolation), log)
    assert is_offered is offered
    assert (found is spec) is not offered
    assert len(log.warnings) == warnings
    if offered:
        assert found["mounts"][-1]["source"] == "/r/a/notify"
