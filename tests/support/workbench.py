"""A root file system with this checkout, an interpreter and pytest, for running our own suites inside a guest.

Everything is copied from this machine. There is no compiler in it: `gcc` there hands out what was compiled here.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from skerry.vm.image.assemble import own_interpreter
from skerry.vm.image.libraries import Libraries
from support.rootfs import APPLETS

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("_pytest", "iniconfig", "packaging", "pluggy", "pygments", "pytest")
DIRECTORIES = "dev etc proc root run sys tmp usr/bin var".split()
COMPILER = """#!/bin/sh
# gcc ... -o TARGET SOURCE.c: the program of that name was compiled before
while [ $# -gt 0 ]; do
    case $1 in
    -o) target=$2; shift ;;
    *.c) source=$1 ;;
    esac
    shift
done
exec cp "/opt/compiled/$(basename "$source" .c)" "$target"
"""


def build(root: Path) -> Path:
    """Make it; the checkout is at /skerry, the packages beside it on the path."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    _add_interpreter(root)
    site = root / "opt/site"
    for name in PACKAGES:
        found = next((CHECKOUT / ".venv/lib").glob(f"python3*/site-packages/{name}"))
        shutil.copytree(found, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(next((CHECKOUT / ".venv/lib").glob("python3*/site-packages/py.py")), site)
    for name in ("src", "tests", "bin", "init", "tools"):
        shutil.copytree(CHECKOUT / name, root / "skerry" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", root / "skerry")
    _add_programs(root)
    _compile(root)
    return root


def _compile(root: Path) -> None:
    """Bytecode that is never compared with its source: the disk is read-only, and its times are all the same."""
    how = ["-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"]
    subprocess.run([own_interpreter(), "-m", "compileall", *how, str(root)], check=True, stdout=subprocess.DEVNULL)


def _add_interpreter(root: Path) -> None:
    interpreter = own_interpreter()
    library = Path(sysconfig.get_path("stdlib"))
    ignore = shutil.ignore_patterns("__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "config-*")
    shutil.copytree(library, root / str(library).lstrip("/"), symlinks=True, ignore=ignore)
    libraries = Libraries()
    libraries.add(interpreter)
    for extension in (library / "lib-dynload").glob("*.so"):
        try:
            libraries.add(str(extension))
        except Exception:  # an extension whose library is not installed is of no use here, either
            continue
    libraries.add_by_name("libseccomp.so.2", package="libseccomp2")
    for path, source in libraries.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (root / "usr/bin/python3").unlink(missing_ok=True)
    (root / "usr/bin/python3").symlink_to(interpreter)


def _add_programs(root: Path) -> None:
    (root / "bin").mkdir(exist_ok=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    compiled = root / "opt/compiled"
    compiled.mkdir(parents=True)
    for source in (CHECKOUT / "tests/support").glob("*.c"):
        subprocess.run(["gcc", "-static", "-O1", "-o", compiled / source.stem, source], check=True)
    (root / "bin/gcc").write_text(COMPILER)
    os.chmod(root / "bin/gcc", 0o755)
    for name in ("passwd", "group"):
        (root / "etc" / name).write_text("root:x:0:\n" if name == "group" else "root:x:0:0:root:/root:/bin/sh\n")
