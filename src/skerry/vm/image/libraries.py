"""Which shared objects a set of programs needs, found as the dynamic linker finds them.

Runs in: skerry image build.   Imports: os, subprocess; errors, vm.image.elf.
Source:  ld.so(8); `ldconfig -p`.
Never:   runs the programs, as ldd does.
"""

import os
import subprocess

from skerry.errors import Error
from skerry.vm.image.elf import Elf

_LDCONFIG = "/sbin/ldconfig"
# `ldconfig -p` marks a library of this machine's kind so; others have x32, or nothing.
_MARKS = {"x86_64": "x86-64", "aarch64": "AArch64"}
# Where every dynamic linker looks, and where one that has no ldconfig does.
_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")


class Libraries:
    """Collects files: `add` programs and libraries, then read `files`.

    files   path in the guest -> path here
    """

    __slots__ = ("_known", "files")

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._known = _cache()

    def add(self, path: str) -> None:
        """Add a file and everything that it needs to be loaded, each where it is here.

        Errors  Error naming a library that is not here.
        """
        if path in self.files:
            return
        self.files[path] = path
        with open(path, "rb") as file:
            elf = Elf(file.read(), path)
        if elf.interpreter:
            self.files[elf.interpreter] = elf.interpreter
        directory = os.path.dirname(path)
        search = [place.replace("$ORIGIN", directory) for place in elf.search]
        for name in elf.needed:
            self.add(self._find(name, search, path))

    def add_by_name(self, name: str, *, package: str) -> None:
        """Add a library that is loaded at run time.

        Errors  Error with the package that has it.
        """
        try:
            path = self._find(name, [], "skerry")
        except Error as error:
            raise Error(error.message, hint=f"install the package {package}") from None
        self.add(path)

    def _find(self, name: str, search: "list[str]", wanted_by: str) -> str:
        """The path of a library; where the linker's cache names it, that is a directory it looks at by default."""
        for directory in search:
            path = os.path.normpath(f"{directory}/{name}")
            if os.path.isfile(path):
                return path
        found = self._known.get(name, "")
        for path in (found, *(f"{directory}/{name}" for directory in _DIRECTORIES)):
            if path and os.path.isfile(path):
                return path
        raise Error(f"cannot find the library {name}, which {wanted_by} needs")


def _cache() -> "dict[str, str]":
    """name -> path, as the linker's cache has it; of several the first counts."""
    mark = _MARKS.get(os.uname().machine, "")
    try:
        done = subprocess.run([_LDCONFIG, "-p"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    known: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and mark in name:
            known.setdefault(name.split(" ", 1)[0], path)
    return known
