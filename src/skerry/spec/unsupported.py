"""What is valid in OCI 1.3 and not built yet: one table, refused by pointer.

Runs in: create, run, exec (hot); pure.   Imports: nothing.
Source:  runtime-spec 1.3.0 config.md, config-linux.md, config-vm.md.
Never:   lets a wanted property pass unheard (lifecycle 133).

`spec/features.py` reads the same table, so that what is refused here is not promised there.
"""

from skerry.errors import SpecError

# where -> property -> why
PROPERTIES = {
    "process": {
        "selinuxLabel": "SELinux labels are not supported yet",
    },
    "user": {"username": "a user name has no meaning on Linux, give uid and gid"},
    "mount": {
        "uidMappings": "id-mapped mounts are not supported yet",
        "gidMappings": "id-mapped mounts are not supported yet",
    },
    "linux": {
        "mountLabel": "SELinux labels are not supported yet",
        "intelRdt": "Intel RDT is not supported yet",
        "netDevices": "moving network devices is not supported yet",
    },
}

# Options of a mount that a runtime performs, not a file system
MOUNT_OPTIONS = {
    "idmap": "id-mapped mounts are not supported yet",
    "ridmap": "id-mapped mounts are not supported yet",
    "copy-symlink": "copying a symbolic link is not supported yet",
    "src-nofollow": "mounting a symbolic link is not supported yet",
    "dest-nofollow": "mounting over a symbolic link is not supported yet",
}

SYSTEMD_CGROUP = "the form slice:prefix:name needs the systemd driver, which is not supported yet"


def refuse(where: str, value: "dict[str, object]", pointer: str) -> None:
    """Raise for a property of the table that asks for something; empty ones ask for nothing."""
    for name, reason in PROPERTIES[where].items():
        if name in value and value[name] not in ("", [], {}):
            raise SpecError(f"{pointer}/{name}", reason)


def refuse_mount_options(options: "list[str]", pointer: str) -> None:
    for n, option in enumerate(options):
        reason = MOUNT_OPTIONS.get(option.partition("=")[0])
        if reason:
            raise SpecError(f"{pointer}/{n}", reason)
