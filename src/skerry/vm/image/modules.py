"""The guest's kernel modules: which are needed, in the order in which they can be loaded.

Runs in: skerry image build.   Imports: os, subprocess; errors.
Source:  modules.dep(5), modules.builtin of kmod.
Never:   takes a module that nothing here asks for.
"""

import os
import subprocess

from skerry.errors import Error

# module -> (what for, whether a guest does without). What is built in needs no file.
WANTED = {
    "virtio_pci": ("devices of the q35 machine", True),
    "virtio_mmio": ("devices of the microvm machine", True),
    "virtio_console": ("the link to the host", False),
    "virtio_scsi": ("disks", False),
    "sd_mod": ("disks", False),
    "erofs": ("images", False),
    "ext4": ("scratch disks", False),
    "overlay": ("root file systems", False),
    "virtio_net": ("network", False),
    "virtio-rng": ("randomness", True),
    "fuse": ("shares", True),
    "virtiofs": ("shares", True),
    "virtio_balloon": ("memory that goes back to the host", True),
}
ROOT = "/lib/modules"
_UNPACK = {".xz": ["xz", "-dc"], ".zst": ["zstd", "-dc"], ".gz": ["gzip", "-dc"]}
_PACKAGES = {".xz": "xz-utils", ".zst": "zstd", ".gz": "gzip"}


def select(release: str) -> "list[tuple[str, bytes]]":
    """(name, content) of every module to load, each after those that it needs.

    Errors  Error naming what this kernel lacks.
    """
    directory = f"{ROOT}/{release}"
    dependencies = _dependencies(directory)
    builtin = {_name(line) for line in _lines(f"{directory}/modules.builtin")}
    paths: list[str] = []
    for name, (purpose, optional) in WANTED.items():
        path = dependencies.get(_name(name), ("", []))[0]
        if path:
            _visit(path, dependencies, paths)
        elif _name(name) not in builtin and not optional:
            raise Error(
                f"cannot use the kernel {release}: it has no {name}, needed for {purpose}",
                hint="install the package linux-image-cloud-amd64",
            )
    return [(_name(path), _content(f"{directory}/{path}")) for path in paths]


def _visit(path: str, dependencies: "dict[str, tuple[str, list[str]]]", paths: "list[str]") -> None:
    for needed in dependencies[_name(path)][1]:
        _visit(needed, dependencies, paths)
    if path not in paths:
        paths.append(path)


def _dependencies(directory: str) -> "dict[str, tuple[str, list[str]]]":
    """name -> (path, paths of what it needs)."""
    found = {}
    for line in _lines(f"{directory}/modules.dep"):
        path, _, needed = line.partition(":")
        found[_name(path)] = (path, needed.split())
    return found


def _lines(path: str) -> "list[str]":
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError as error:
        raise Error(
            f"cannot read {path}: {error.strerror}",
            hint="the modules of the guest's kernel must be installed, too",
        ) from error


def _name(path: str) -> str:
    """`kernel/fs/overlayfs/overlay.ko.xz` -> `overlay`; the kernel takes `-` and `_` for the same."""
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read()
    suffix = os.path.splitext(path)[1]
    if suffix not in _UNPACK:
        return data
    try:
        return subprocess.run(_UNPACK[suffix], input=data, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Error(
            f"cannot unpack {path}: {error}", hint=f"install the package {_PACKAGES[suffix]}"
        ) from error
