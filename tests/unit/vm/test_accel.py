"""KVM only where it really works."""

import builtins
import io
import posix

import pytest

from skerry.vm import accel

INTEL = "processor\t: 0\nmodel name\t: Some(R) CPU @ 2.30GHz\ncpu MHz\t\t: 1197.000\nflags\t\t: fpu vmx sse2\n"
PLAIN = "processor\t: 0\nmodel name\t: Some Processor\ncpu MHz\t\t: 2100.000\nflags\t\t: fpu sse2\n"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch):
    """Make up a host: its device opens or not, and what the kernel tells of its processor."""

    def make(device: "int | None", cpuinfo: str, base: str = "") -> None:
        def open_device(path: str, flags: int, *mode: int) -> int:
            assert path == accel.KVM_DEVICE
            if device:
                raise OSError(device, "")
            return real_open("/dev/null", flags)

        def open_text(path: str, **_: object) -> io.StringIO:
            if path == "/proc/cpuinfo":
                return io.StringIO(cpuinfo)
            if not base:
                raise FileNotFoundError(path)
            return io.StringIO(base)

        real_open = posix.open
        monkeypatch.setattr(posix, "open", open_device)
        monkeypatch.setattr(posix, "uname", lambda: type("Uname", (), {"machine": "x86_64"}))
        monkeypatch.setattr(builtins, "open", open_text)

    return make


def test_both_are_there(host) -> None:
    host(None, INTEL)
    choice = accel.choose()
    assert (choice.name, choice.why) == ("kvm", "")


def test_a_device_alone_is_not_enough(host) -> None:
    host(None, PLAIN)
    choice = accel.choose()
    assert choice.name == "tcg" and "none of the flags vmx, svm" in choice.why


@pytest.mark.parametrize(("number", "words"), [(2, "no such file"), (13, "permission denied"), (6, "no such device")])
def test_without_a_device(host, number: int, words: str) -> None:
    host(number, INTEL)
    choice = accel.choose()
    assert choice.name == "tcg" and words in choice.why


@pytest.mark.parametrize("wanted", ["kvm", "tcg"])
def test_an_explicit_choice_is_obeyed(host, wanted: str) -> None:
    host(2, PLAIN)
    choice = accel.choose(wanted)
    assert (choice.name, choice.why) == (wanted, "")


@pytest.mark.parametrize(
    ("cpuinfo", "base", "khz"), [(INTEL, "", 2300000), (PLAIN, "", 2100000), (PLAIN, "1900000\n", 1900000), ("", "", 0)]
)
def test_the_clock(host, cpuinfo: str, base: str, khz: int) -> None:
    host(None, cpuinfo, base)
    assert accel.clock_khz() == khz
