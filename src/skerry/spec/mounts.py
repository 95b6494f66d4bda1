"""Rules for `mounts`.

Runs in: create, run (hot); pure.   Imports: spec.mount_options.
Source:  runtime-spec config.md "Mounts"; mount(8), fsconfig(2).
Never:   looks at the host; a missing source is found when the plan is made.
"""

from skerry.errors import SpecError
from skerry.spec import unsupported
from skerry.spec.fields import array, members, name, path, text, texts
from skerry.spec.mount_options import parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What a bind cannot change: it would change the file system for everyone who has it mounted.
_SUPERBLOCK_ONLY = {"sync", "dirsync", "mand", "lazytime"}
_WITHOUT_TYPE = ("", "none")
_CGROUP = ("cgroup", "cgroup2")


def check_mounts(mounts: "Any", pointer: str = "/mounts") -> None:
    """Check every mount by itself.

    Errors  SpecError.
    """
    array(mounts, pointer)
    for n, mount in enumerate(mounts):
        _check_mount(mount, f"{pointer}/{n}")


def _check_mount(mount: "Any", pointer: str) -> None:
    members(mount, pointer, _MOUNT, required="destination")
    unsupported.refuse("mount", mount, pointer)
    if is_root(mount["destination"]):
        raise SpecError(f"{pointer}/destination", "must not be the root of the container")
    words = mount.get("options", [])
    unsupported.refuse_mount_options(words, f"{pointer}/options")
    kind = mount.get("type", "")
    options = parse_options(words, f"{pointer}/options", kind=kind)
    if options.tmpcopyup and (kind != "tmpfs" or options.bind):
        raise SpecError(f"{pointer}/options/{words.index('tmpcopyup')}", "is for tmpfs only")
    if options.remount or (kind in _CGROUP and not options.bind):
        # These change or show a file system that others have mounted, too.
        _check_flags_only(words, options.data, f"{pointer}/options")
    if options.remount:
        return
    if options.bind:
        name(mount.get("source", ""), f"{pointer}/source")
        _check_flags_only(words, [], f"{pointer}/options")
    elif kind in _WITHOUT_TYPE:
        raise SpecError(f"{pointer}/type", "is needed where the options do not say bind")


def _check_flags_only(words: "list[str]", data: "list[str]", pointer: str) -> None:
    """Refuse what speaks to a file system, where only a mount of it is made or changed."""
    for n, word in enumerate(words):
        if word in _SUPERBLOCK_ONLY or word in data:
            raise SpecError(
                f"{pointer}/{n}",
                f"{word!r} is for a new file system, here it could only be ignored",
            )


def is_root(path: str) -> bool:
    """Whether a path leads no further than `/`, were there no symbolic links."""
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth = max(depth - 1, 0)
        elif part not in ("", "."):
            depth += 1
    return not depth


_MOUNT = {"destination": path, "type": text, "source": text, "options": texts}
