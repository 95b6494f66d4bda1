"""The rootfs of the tests: static busybox, our static probe, and the few directories a container wants."""

import os
import shutil
import subprocess
from pathlib import Path

APPLETS = (
    "sh cat ls id env true false echo test stat mount umount touch mkdir mknod ln rm chmod chown hostname "
    "readlink ip sleep ps kill dd head tail wc sort grep cut tr printf pwd dirname date df find tty stty "
    "mkfifo nc ping seq expr sed awk nproc dnsdomainname sysctl chroot cp mv uname"
).split()
DIRECTORIES = "bin dev etc mnt proc root run sys tmp usr/bin var vol".split()
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n1000:x:0:0:trap:/trap:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n1000:x:0:\n"


def build_template(where: Path) -> Path:
    """Make the rootfs that every bundle copies, once per session."""
    root = where / "template"
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RuntimeError("the suite needs a static busybox (package busybox-static)")
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    subprocess.run(
        ["gcc", "-static", "-O1", "-o", root / "bin/probe", Path(__file__).parent / "probe.c"], check=True
    )
    return root


def copy_template(template: Path, target: Path) -> Path:
    """Copy the tree; the two programs are hard links, for no test writes to them."""
    for directory, _, files in os.walk(template):
        there = target / os.path.relpath(directory, template)
        there.mkdir(exist_ok=True)
        there.chmod(os.stat(directory).st_mode & 0o7777)
        for name in files:
            source = Path(directory, name)
            if source.is_symlink():
                (there / name).symlink_to(source.readlink())
            elif name in ("busybox", "probe"):
                os.link(source, there / name)
            else:
                shutil.copyfile(source, there / name)
    return target
