"""Mount options: one table from the option's word to what the mount calls need.

Runs in: create, run (hot); pure.   Imports: linux.abi.
Source:  mount(8), mount_setattr(2), fs/fs_context.c `common_set_sb_flag` of Linux 6.18; the words
         are those of `runc features` and of runtime-spec config.md "Linux mount options".
Never:   knows a file system's own options; what is not in the table is data for the file system.

An option speaks of one of five things: an attribute of this mount (or of the whole tree below it),
the propagation, the superblock, a bind, or a wish to the runtime. Later options win over earlier
ones. `clear` holds what must be taken away from a mount that has it already (a bind of a `nosuid`
source with `suid`); in a new mount it changes nothing. Access times are one field of three values,
so that setting one always clears the field.
"""

from skerry.errors import SpecError
from skerry.linux import abi

_ATIME = abi.MOUNT_ATTR_ATIME
_RECURSE = abi.MS_REC

# option -> (attribute bits, set or clear). With an `r` in front: the same for the whole tree.
_ATTRIBUTES = {
    "nosuid": (abi.MOUNT_ATTR_NOSUID, True),
    "suid": (abi.MOUNT_ATTR_NOSUID, False),
    "nodev": (abi.MOUNT_ATTR_NODEV, True),
    "dev": (abi.MOUNT_ATTR_NODEV, False),
    "noexec": (abi.MOUNT_ATTR_NOEXEC, True),
    "exec": (abi.MOUNT_ATTR_NOEXEC, False),
    "nodiratime": (abi.MOUNT_ATTR_NODIRATIME, True),
    "diratime": (abi.MOUNT_ATTR_NODIRATIME, False),
    "nosymfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, True),
    "symfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, False),
    "ro": (abi.MOUNT_ATTR_RDONLY, True),
    "rw": (abi.MOUNT_ATTR_RDONLY, False),
}

# option -> (value of the access-time field, set or cancel). With an `r` in front: as above.
_ACCESS_TIMES = {
    "relatime": (abi.MOUNT_ATTR_RELATIME, True),
    "norelatime": (abi.MOUNT_ATTR_RELATIME, False),
    "noatime": (abi.MOUNT_ATTR_NOATIME, True),
    "atime": (abi.MOUNT_ATTR_NOATIME, False),
    "strictatime": (abi.MOUNT_ATTR_STRICTATIME, True),
    "nostrictatime": (abi.MOUNT_ATTR_STRICTATIME, False),
}

_PROPAGATIONS = {
    "private": abi.MS_PRIVATE,
    "shared": abi.MS_SHARED,
    "slave": abi.MS_SLAVE,
    "unbindable": abi.MS_UNBINDABLE,
}

# Superblock options that fsconfig takes as flags -> the word each of them overrides.
_SUPERBLOCK = {
    "ro": "rw",
    "rw": "ro",
    "sync": "async",
    "async": "sync",
    "dirsync": "",
    "mand": "nomand",
    "nomand": "mand",
    "lazytime": "nolazytime",
    "nolazytime": "lazytime",
}

# Accepted as in runc, without effect: mount(2) passed these as bits that only quieten the kernel's
# log (silent, loud) or that file systems set by themselves (the others); fsconfig has no such flag.
_WITHOUT_EFFECT = {"defaults", "silent", "loud", "iversion", "noiversion", "acl", "noacl"}

_BINDS = {"bind": 1, "rbind": 2}


class MountOptions:
    """What the options of one mount ask for.

    set_attrs, clear_attrs    MOUNT_ATTR_* bits of this mount, for mount_setattr: clear, then set
    recursive_set,            the same for the mount and all below it
      recursive_clear
    propagation               MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE in order, each with
                              MS_REC if recursive
    flags                     fsconfig flag names for a new superblock: ro sync dirsync mand ...
    bind                      0 no, 1 this mount only, 2 with all below
    data                      the file system's own options, `name` or `name=value`, in order
    tmpcopyup                 copy what lies below the mount point into the new tmpfs
    remount                   change the mount that is there, make none
    """

    __slots__ = (
        "bind", "clear_attrs", "data", "flags", "propagation", "recursive_clear", "recursive_set",
        "remount", "set_attrs", "tmpcopyup",
    )  # fmt: skip

    def __init__(self) -> None:
        self.set_attrs = self.clear_attrs = 0
        self.recursive_set = self.recursive_clear = 0
        self.propagation: list[int] = []
        self.flags: list[str] = []
        self.bind = 0
        self.data: list[str] = []
        self.tmpcopyup = self.remount = False


def parse_options(options: "list[str]", pointer: str, *, kind: str = "") -> MountOptions:
    """Sort the options of one mount.

    Shape   `pointer` is that of the mount's `options`; `kind` is the mount's `type`: `bind` there
            makes a bind without the option too.
    Errors  SpecError at <pointer>/<n> for file system data on a bind mount.
    """
    result = MountOptions()
    first_data = -1
    for n, option in enumerate(options):
        if option in _ATTRIBUTES:
            _attribute(result, _ATTRIBUTES[option])
        if option in _SUPERBLOCK:
            _superblock(result, option)
        elif option in _ATTRIBUTES or option in _WITHOUT_EFFECT:
            pass
        elif option in _ACCESS_TIMES:
            _access_time(result, _ACCESS_TIMES[option])
        elif option in _BINDS:
            result.bind = _BINDS[option]
        elif option in _PROPAGATIONS:
            result.propagation.append(_PROPAGATIONS[option])
        elif option == "tmpcopyup":
            result.tmpcopyup = True
        elif option == "remount":
            result.remount = True
        elif option[:1] == "r" and _recursive(result, option[1:]):
            pass
        else:
            first_data = n if first_data < 0 else first_data
            result.data.append(option)
    if kind == "bind" and not result.bind:
        result.bind = 1
    if result.bind and first_data >= 0:
        raise SpecError(
            f"{pointer}/{first_data}",
            f"{options[first_data]!r} is no mount option, and a bind has no file system to take it",
        )
    return result


def known_options() -> "list[str]":
    """Every word of the table, sorted, as `skerry features` lists them."""
    plain = {*_ATTRIBUTES, *_ACCESS_TIMES, *_PROPAGATIONS}
    recursive = {"r" + word for word in plain}
    rest = {*_SUPERBLOCK, *_WITHOUT_EFFECT, *_BINDS, "tmpcopyup", "remount"}
    return sorted(plain | recursive | rest)


def _recursive(result: MountOptions, word: str) -> bool:
    """Apply an option whose `r` is cut off; False if there is no such option."""
    if word in _ATTRIBUTES:
        _attribute(result, _ATTRIBUTES[word], "recursive_set", "recursive_clear")
    elif word in _ACCESS_TIMES:
        _access_time(result, _ACCESS_TIMES[word], "recursive_set", "recursive_clear")
    elif word in _PROPAGATIONS:
        result.propagation.append(_PROPAGATIONS[word] | _RECURSE)
    else:
        return False
    return True


def _attribute(
    result: MountOptions,
    row: "tuple[int, bool]",
    to_set: str = "set_attrs",
    to_clear: str = "clear_attrs",
) -> None:
    bit, wanted = row
    if not wanted:
        to_set, to_clear = to_clear, to_set
    setattr(result, to_set, getattr(result, to_set) | bit)
    setattr(result, to_clear, getattr(result, to_clear) & ~bit)


def _access_time(
    result: MountOptions,
    row: "tuple[int, bool]",
    to_set: str = "set_attrs",
    to_clear: str = "clear_attrs",
) -> None:
    """Set the field, or cancel a value: what is left then is the kernel's default, relatime."""
    value, wanted = row
    now, cleared = getattr(result, to_set), getattr(result, to_clear)
    asked = now & _ATIME if cleared & _ATIME else None
    if not wanted:
        if value == abi.MOUNT_ATTR_RELATIME or asked not in (None, value):
            return
        value = abi.MOUNT_ATTR_RELATIME
    setattr(result, to_set, now & ~_ATIME | value)
    setattr(result, to_clear, cleared | _ATIME)


def _superblock(result: MountOptions, option: str) -> None:
    flags = result.flags
    for word in (option, _SUPERBLOCK[option]):
        if word in flags:
            flags.remove(word)
    flags.append(option)
