"""The cache of compiled filters: a hit is cheap, and nothing that is not ours alone is believed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.errors import EngineError
from skerry.linux import seccomp as linux_seccomp
from skerry.native import seccomp, seccomp_cache

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": ["read", "nosuchcall"], "action": "SCMP_ACT_ALLOW"}],
}
SOURCE = Path(seccomp_cache.__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often libseccomp was asked."""
    count: list[int] = []
    real = linux_seccomp.compile_filter

    def counting(*args: Any, **more: Any) -> Any:
        count.append(1)
        return real(*args, **more)

    monkeypatch.setattr(linux_seccomp, "compile_filter", counting)
    return count


def only_file(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_the_second_time_is_read(cache: Path, compilations: list[int]) -> None:
    first = seccomp.program(PROFILE, str(cache))
    second = seccomp.program(dict(PROFILE), str(cache))
    assert len(compilations) == 1
    assert (first.filter, first.ignored) == (second.filter, second.ignored)
    assert second.ignored == ["nosuchcall"]
    assert cache.stat().st_mode & 0o7777 == 0o700
    assert only_file(cache).stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("mask", [0o000, 0o277, 0o777])
def test_modes_do_not_depend_on_the_umask(cache: Path, mask: int) -> None:
    """security.md P06."""
    old = os.umask(mask)
    try:
        seccomp.program(PROFILE, str(cache))
    finally:
        os.umask(old)
    assert cache.stat().st_mode & 0o7777 == 0o700
    assert only_file(cache).stat().st_mode & 0o7777 == 0o600


def test_a_hit_loads_no_ctypes(cache: Path) -> None:
    seccomp.program(PROFILE, str(cache))
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "from skerry.native import seccomp\n"
        f"program = seccomp.program({PROFILE!r}, {str(cache)!r})\n"
        "print(len(program.filter) > 0, sorted({'ctypes', 're', 'os', 'json'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("True []\n", "")


def test_what_decides_the_name() -> None:
    """Flags and listener are no part of the filter; all else is."""
    same = {**PROFILE, "flags": [], "listenerPath": "/x", "listenerMetadata": "m", "other": 1}
    assert seccomp_cache.key(same) == seccomp_cache.key(PROFILE)
    for change in (
        {"defaultAction": "SCMP_ACT_KILL"},
        {"defaultErrnoRet": 1},
        {"architectures": ["SCMP_ARCH_X86"]},
        {"syscalls": []},
    ):
        assert seccomp_cache.key({**PROFILE, **change}) != seccomp_cache.key(PROFILE)


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def damage_empty(path: Path) -> None:
    os.truncate(path, 0)


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def damage_mode(path: Path) -> None:
    path.chmod(0o640)


def damage_owner(path: Path) -> None:
    os.chown(path, 65534, 65534)


def damage_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def damage_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def damage_size(path: Path) -> None:
    os.truncate(path, 2 << 20)


def damage_directory_mode(path: Path) -> None:
    path.parent.chmod(0o770)


def damage_directory_owner(path: Path) -> None:
    os.chown(path.parent, 65534, 65534)


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=[item.__name__ for item in DAMAGES])
def test_what_is_not_ours_and_whole_is_not_believed(
    cache: Path, compilations: list[int], damage: Any
) -> None:
    if "owner" in damage.__name__ and os.geteuid():
        pytest.skip("only root can give a file away")
    expected = seccomp.program(PROFILE, str(cache)).filter
    damage(only_file(cache))
    assert seccomp.program(PROFILE, str(cache)).filter == expected
    assert len(compilations) == 2


def test_another_library_compiles_again(
    cache: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seccomp.program(PROFILE, str(cache))
    real = seccomp_cache._identity
    monkeypatch.setattr(seccomp_cache, "_identity", lambda path: [*real(path)[:-1], 12345])
    seccomp.program(PROFILE, str(cache))
    seccomp.program(PROFILE, str(cache))
    assert len(compilations) == 2, "the stale file was replaced"


def test_a_cache_that_cannot_be_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/")
    for place in ("file", "file/below", "missing/below", "link"):
        assert seccomp.program(PROFILE, str(tmp_path / place)).filter


def test_the_number_of_files_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp_cache, "_FILES_LIMIT", 5)
    for number in range(20):
        seccomp.program({**PROFILE, "defaultErrnoRet": number}, str(cache))
        assert len(list(cache.iterdir())) <= 6


def test_without_libseccomp_the_remedy_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux_seccomp, "LIBRARY", "libnosuchseccomp.so.9")
    with pytest.raises(EngineError) as caught:
        seccomp.program(PROFILE, str(cache))
    assert "cannot load libnosuchseccomp.so.9" in str(caught.value)
    assert "install the package libseccomp2" in caught.value.hint
