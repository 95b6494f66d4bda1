"""skerry doctor: the table, the remedies, the exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry import doctor
from skerry.disk import PROGRAMS
from skerry.doctor import Check
from skerry.errors import Error, KernelError

TOP = Path(__file__).parents[3]


def fine() -> str:
    return "here"


def broken() -> str:
    raise Error("not here")


def check(name: str, isolations: tuple[str, ...], look, *, needed: bool = True) -> Check:
    return Check(name, isolations, look, remedy=f"mend {name}", needed=needed)


BASE = check("base", doctor.BOTH, fine)
NICE = check("nice", doctor.BOTH, broken, needed=False)
NO_VM = check("qemu", ("vm",), broken)
NO_PROCESS = check("pid", ("process",), broken)
NEITHER = check("root", doctor.BOTH, broken)


@pytest.mark.parametrize(
    ("checks", "words", "code"),
    [
        ((BASE,), (), 0),
        ((BASE, NICE), (), 0),
        ((BASE, NO_VM), (), 2),
        ((BASE, NO_VM), ("--isolation", "process"), 0),
        ((BASE, NO_VM), ("--isolation", "vm"), 1),
        ((BASE, NO_PROCESS), (), 1),
        ((BASE, NO_PROCESS), ("--isolation=vm",), 0),
        ((NEITHER,), (), 1),
        ((NEITHER,), ("--isolation", "process"), 1),
    ],
)
def test_exit_codes(skerry, monkeypatch, checks, words, code) -> None:
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert skerry("doctor", *words)[0] == code
    assert skerry("doctor", "--json", *words)[0] == code


def test_a_failed_check_comes_with_its_remedy(skerry, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (BASE, NICE, NO_VM))
    _, out, err = skerry("doctor")
    lines = out.splitlines()
    assert err == "" and lines[0].split() == ["CHECK", "FOR", "FOUND"]
    assert lines[1:] == [
        "ok    base   process vm  here",
        "warn  nice   process vm  not here; mend nice",
        "FAIL  qemu   vm          not here; mend qemu",
        "process isolation works",
        "vm isolation does not work",
    ]


def test_json(skerry, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (BASE, NO_VM))
    document = json.loads(skerry("doctor", "--json")[1])
    assert (document["process"], document["vm"]) == (True, False)
    assert document["checks"][1] == {
        "check": "qemu", "isolations": ["vm"], "needed": True, "ok": False, "found": "not here", "remedy": "mend qemu",
    }  # fmt: skip
    assert document["checks"][0]["remedy"] == ""


def test_an_unknown_isolation(skerry) -> None:
    code, _, err = skerry("doctor", "--isolation", "hcs")
    assert code == 1 and 'invalid isolation "hcs"' in err


@pytest.mark.parametrize("error", [OSError(13, "x"), KernelError("open", "/x", 2), Error("gone")])
def test_no_failure_of_a_check_is_ours(skerry, monkeypatch, error) -> None:
    def look() -> str:
        raise error

    monkeypatch.setattr(doctor, "CHECKS", (check("odd", doctor.BOTH, look),))
    code, out, _ = skerry("doctor")
    assert code == 1 and "Traceback" not in out and "FAIL  odd" in out


def test_every_check_has_a_name_and_a_remedy() -> None:
    names = [row.name for row in doctor.CHECKS]
    assert len(set(names)) == len(names)
    assert all(row.remedy and set(row.isolations) <= set(doctor.ISOLATIONS) for row in doctor.CHECKS)
    for isolation in doctor.ISOLATIONS:
        assert any(isolation in row.isolations and row.needed for row in doctor.CHECKS)


def row(name: str) -> Check:
    return next(check for check in doctor.CHECKS if check.name == name)


@pytest.mark.parametrize(
    ("name", "module", "attribute", "value"),
    [
        ("QEMU", "skerry.vm.hardware", "HYPERVISOR", "/nowhere/qemu"),
        ("QEMU", "skerry.vm.hardware", "HYPERVISOR", "/bin/true"),
        ("mkfs.erofs", "skerry.vm.disks", "EROFS_PROGRAMS", ("/nowhere/mkfs.erofs",)),
        ("virtiofsd", "skerry.vm.share", "PROGRAMS", ("/nowhere/virtiofsd",)),
        ("disks", "skerry.vm.disks", "DIRECTORY", "/proc/nothing"),
        ("disks", "skerry.vm.needs", "_FREE_BYTES", 1 << 62),
        ("KVM", "skerry.vm.accel", "KVM_DEVICE", "/nowhere/kvm"),
        ("namespaces", "skerry.doctor", "_NEEDED_NAMESPACES", ("nothing",)),
        ("controllers", "skerry.doctor", "_USEFUL_CONTROLLERS", ("nothing",)),
        ("skerry-init", "skerry.paths", "init_path", lambda: "/nowhere/skerry-init"),
        ("kernel", "skerry.native.facts", "OLDEST_KERNEL", (99, 0)),
    ],
)
def test_what_is_missing_is_found_out(monkeypatch, name: str, module: str, attribute: str, value: object) -> None:
    monkeypatch.setattr(f"{module}.{attribute}", value)
    (found,) = [finding for finding in doctor.examine() if finding.check.name == name]
    assert not found.ok and found.words


@pytest.mark.parametrize("content", ["{", '{"vm": 1}'])
def test_a_bad_configuration(monkeypatch, tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    path.chmod(0o644)
    monkeypatch.setattr("skerry.vm.settings.load_config.__defaults__", (str(path),))
    (found,) = [finding for finding in doctor.examine() if finding.check.name == "configuration"]
    assert not found.ok and str(path) in found.words


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_on_this_host() -> None:
    """It agrees with what other tests are skipped for."""
    words = [sys.executable, "-B", "-I", "-c", f"import sys; sys.path[0:0]=[{str(TOP / 'src')!r}]\n"
             "from skerry.cli.main import main; sys.exit(main(['doctor', '--json']))"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert document["process"] and done.returncode == (0 if document["vm"] else 2)
    found = {check["check"]: check["ok"] for check in document["checks"]}
    assert found["mkfs.ext4"] == any(map(os.path.exists, PROGRAMS))
    assert found["QEMU"] == os.path.exists("/usr/bin/qemu-system-x86_64")
