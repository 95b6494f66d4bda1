"""skerry's zygote: later pods come from it, and nothing depends on it."""

import os
import signal
from pathlib import Path

import pytest
from cri_client import parent_of
from leftovers import is_zygote
from support import host

SLEEP = ("sleep", "inf")
pytestmark = pytest.mark.parametrize("handler", ["skerry"])


def zygotes(containerd) -> list[int]:
    return [pid for pid in host.descendants(containerd.nursery.pid) if is_zygote(pid)]


def wait_for_zygote(containerd, pod) -> int:
    """A pod's own interpreter starts one a moment after."""
    sockets = containerd.see("/run/containerd/s")
    host.eventually(lambda: list(sockets.glob("skerry-zygote-*")) and zygotes(containerd), 20)
    (found,) = zygotes(containerd)
    assert pod.shim_pid != found
    return found


def test_later_pods_come_from_it(containerd, cri, handler):
    """Their shims are its children; starts and deletes of members leave no process behind."""
    zygote = wait_for_zygote(containerd, cri.pod(handler))
    before = set(host.descendants(zygote))
    later = cri.pod(handler)
    assert parent_of(later.shim_pid) == zygote
    assert Path(f"/proc/{later.shim_pid}/comm").read_text().startswith(f"shim:{later.id[:8]}")
    container = later.container(*SLEEP).start()
    assert container.out("echo", "fine") == "fine\n"
    container.stop()
    container.remove()
    later.remove()
    host.eventually(lambda: set(host.descendants(zygote)) == before)


def test_it_is_killed(containerd, cri, handler):
    zygote = wait_for_zygote(containerd, cri.pod(handler))
    pod = cri.pod(handler)
    assert parent_of(pod.shim_pid) == zygote
    os.kill(zygote, signal.SIGKILL)
    host.wait_exit(zygote)
    container = pod.container("sh", "-c", "exit 5").start()
    assert container.wait() == 5
    assert cri.pod(handler).container(*SLEEP).start().out("echo", "on") == "on\n"


def test_it_hangs(containerd, cri, handler):
    """The launcher waits for two seconds, then goes its own way."""
    zygote = wait_for_zygote(containerd, cri.pod(handler))
    os.kill(zygote, signal.SIGSTOP)
    try:
        pod = cri.pod(handler)
        assert parent_of(pod.shim_pid) != zygote
    finally:
        os.kill(zygote, signal.SIGCONT)
    pod.remove()


def test_another_environment_is_refused(containerd, cri, handler):
    """A daemon at another nice value gets shims of its own."""
    zygote = wait_for_zygote(containerd, cri.pod(handler))
    for task in os.listdir(f"/proc/{containerd.pid}/task"):
        os.setpriority(os.PRIO_PROCESS, int(task), 1)
    try:
        pod = cri.pod(handler)
        assert parent_of(pod.shim_pid) != zygote
        assert os.getpriority(os.PRIO_PROCESS, pod.container(*SLEEP).start().pid) == 1
    finally:
        for task in os.listdir(f"/proc/{containerd.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(task), 0)
