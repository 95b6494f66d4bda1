"""Guests that speak the link wrongly, in real VMs: the pod ends with one clear line, and nobody else is troubled.

The guest is tests/support/guest/evil.c, booted once and cloned; a container's program says what it is to do wrong.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import guest as small_guest
from support import host
from support.box import Container
from support.spec import fresh_spec
from support.vm_box import VmBox

ROUNDS = int(os.environ.get("SKERRY_ROUNDS") or 1)
GROWTH_LIMIT_KIB = 16 << 10
# case -> what the error says; each of these ends the VM
LIES = {
    "length-zero": "bad frame: kind 1, stream 0, 0 bytes",
    "length-most": "bad frame: kind 1, stream 0, 4294967295 bytes",
    "gibibyte": "bad frame: kind 1, stream 0, 1073741824 bytes",
    "empty-flood": "neither an answer nor an event",
    "hello-flood": "says hello twice",
    "unknown-id": "answers what was never asked",
    "long-code": "an exit code that is none",
    "foreign-exit": "of a container that it has not",
    "foreign-oom": "of a container that it has not",
    "beyond-credit": "more on stream",
    "bad-utf8": "no JSON",
    "half": "ended within a frame",
    "panic": "Attempted to kill init",
}


@pytest.fixture
def files() -> tuple[str, str]:
    if why := small_guest.missing():
        pytest.skip(why)
    return small_guest.build("evil")


class Peak(threading.Thread):
    """The most memory that a process has used, read until it has ended. What wait4 says counts its QEMU in."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status, self.kib = Path(f"/proc/{pid}/status"), 0
        self.start()

    def run(self) -> None:
        try:
            while "VmHWM" in (said := host.fields(self.status.read_text())):
                self.kib = int(said["VmHWM"].split()[0])
                time.sleep(0.005)
        except OSError:
            pass  # it has been reaped


class EvilPod:
    """A container in a VM whose guest is to do one thing wrong."""

    def __init__(self, box: VmBox, files: tuple[str, str], case: str, count: int = 100_000, **limits: str) -> None:
        spec = fresh_spec("evil", case)
        spec["process"]["env"] = [f"EVIL_COUNT={count}"]
        spec["vm"] = {"kernel": {"path": files[0], "initrd": files[1]}, "hwConfig": {"memory": 256 << 20, "vcpus": 1}}
        self.box = box
        self.container: Container = box.create(spec, env=limits)
        self.peak = Peak(box.pid_of(self.container.id, "vmshim"))

    def start(self) -> tuple[int, str]:
        """(code, the one line on stderr or nothing)."""
        result = self.container.verb("start", timeout_s=60)
        text = result.err.removesuffix("\n")
        assert len(text) <= 700 and (text == "" or text.isprintable()), result
        return result.code, text

    def peak_kib(self) -> int:
        """Of the vmshim, which has ended or is about to."""
        self.peak.join(20)
        assert not self.peak.is_alive() and self.peak.kib > 0
        return self.peak.kib


@pytest.fixture(scope="module")
def peaks() -> Iterator[list[int]]:
    """What the vmshim of an honest pod needs at most, once that is known."""
    yield []


def usual_peak(box: VmBox, files: tuple[str, str], peaks: list[int]) -> int:
    if not peaks:
        pod = EvilPod(box, files, "honest")
        assert pod.start() == (0, "")
        assert box.until_stopped(pod.container)["code"] == 0
        pod.container.delete().ok()
        peaks.append(pod.peak_kib())
    return peaks[0]


@pytest.mark.parametrize("case", LIES)
def test_security_v55_a_lie_ends_the_pod(box: VmBox, files: tuple[str, str], peaks: list[int], case: str) -> None:
    """security V55; lifecycle 86, 143: in one line, within a second, in bounded memory; delete finds nothing left."""
    usual = usual_peak(box, files, peaks)
    pod = EvilPod(box, files, case)
    pod.start()
    end = box.until_stopped(pod.container, 20)
    assert (end["code"], end["reason"]) == (255, "vm-lost"), end
    message = end["message"]
    assert LIES[case] in message and message.isprintable() and len(message) <= 500, message
    assert pod.container.wait() == 255
    assert pod.peak_kib() - usual < GROWTH_LIMIT_KIB
    pod.container.delete().ok()


def test_security_v55_logs_without_end(box: VmBox, files: tuple[str, str], peaks: list[int]) -> None:
    """security V55: that is no lie, so the pod lives; what is kept of it is bounded. 10 million by SKERRY_ROUNDS=50."""
    usual = usual_peak(box, files, peaks)
    pod = EvilPod(box, files, "log-flood", 200_000 * ROUNDS)
    assert pod.start() == (0, "")
    assert box.until_stopped(pod.container, 60)["reason"] == "exit"
    pod.container.delete().ok()
    assert pod.peak_kib() - usual < GROWTH_LIMIT_KIB


def test_security_v55_an_error_of_a_guest_is_one_short_line(box: VmBox, files: tuple[str, str]) -> None:
    """security V55"""
    code, text = EvilPod(box, files, "ansi").start()
    assert code == 1 and "[31mred" in text and text.endswith("x")


def test_security_v55_silence(box: VmBox, files: tuple[str, str]) -> None:
    """security V55; lifecycle 144: each question has its deadline, and delete --force waits for nobody."""
    pod = EvilPod(box, files, "silent", SKERRY_TIMEOUT_START="1")
    code, text = pod.start()
    assert code == 1 and "did not answer within 1 s" in text
    began = time.monotonic()
    pod.container.delete("--force").ok()
    assert time.monotonic() - began < 30


def test_security_v55_other_vms_are_not_troubled(box: VmBox, files: tuple[str, str]) -> None:
    """security V55"""
    neighbour = box.parked(fresh_spec())
    boot_id = neighbour.exec("cat", "/proc/sys/kernel/random/boot_id").ok().out
    for case in ("log-flood", "gibibyte", "panic"):
        pod = EvilPod(box, files, case)
        pod.start()
        assert neighbour.exec("cat", "/proc/sys/kernel/random/boot_id").ok().out == boot_id
        box.until_stopped(pod.container, 20)
        pod.container.delete("--force").ok()
    assert neighbour.status == "running"
