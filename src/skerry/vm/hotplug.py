"""Disks, shares and interfaces that come and go while the guest runs.

Runs in: vmshim.   Imports: posix; vm.qmp, rpc.loop.
Source:  the QMP schema of QEMU 7.2; docs/lifecycle.md 127; docs/security.md V42, V43, V49.
Never:   gives QEMU a path: what it uses comes as an fd, opened and checked by us.

A disk of a read-only fd is read-only to QEMU and to the guest, whatever the guest does.
"""

import fcntl
import posix
import stat

from skerry import timeouts
from skerry.errors import VmError
from skerry.rpc.loop import Loop
from skerry.vm import devices
from skerry.vm.qmp import Qmp, QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.rpc.loop import Steps

# virtio-scsi: targets 0 to 255, each with one disk
TARGETS = 256


class Disk:
    """One that is plugged in, and how many use it."""

    __slots__ = ("file", "read_only", "target", "users")

    def __init__(self, file: "tuple[int, int]", target: int, *, read_only: bool) -> None:
        self.file, self.target, self.read_only = file, target, read_only
        self.users = 1

    @property
    def address(self) -> str:
        return f"{self.target}:0"


class Plugs:
    """What is plugged into one machine."""

    __slots__ = ("_count", "_disks", "_loop", "_profile", "_qmp", "_shares")

    def __init__(self, loop: Loop, qmp: Qmp, profile: str, *, shares: bool) -> None:
        self._loop, self._qmp, self._profile, self._shares = loop, qmp, profile, shares
        self._disks: dict[int, Disk] = {}  # by target
        self._count = 0

    # disks

    def attach_disk(self, fd: int, *, read_only: bool) -> str:
        """Plug in the file or block device; one that is there already gets one more user.

        Result  its address, as the agent takes it: "<target>:<lun>".
        Errors  VmError. The fd stays open here, and the caller's.
        """
        status = posix.fstat(fd)
        driver = _driver(fd, status, read_only=read_only)
        file = (status.st_dev, status.st_ino)
        for disk in self._disks.values():
            if disk.file == file:
                if disk.read_only != read_only:
                    raise VmError(
                        "cannot attach a disk both read-only and writable", phase="device"
                    )
                disk.users += 1
                return disk.address
        target = next((n for n in range(TARGETS) if n not in self._disks), -1)
        if target < 0:
            raise VmError(f"cannot attach another disk: {TARGETS} are the most", phase="device")
        disk = Disk(file, target, read_only=read_only)
        self._plug_disk(disk, fd, driver)
        self._disks[target] = disk
        return disk.address

    def _plug_disk(self, disk: Disk, fd: int, driver: str) -> None:
        """By number: fd set n, node disk<n>, device disk<n>dev."""
        n, read_only = disk.target, disk.read_only
        execute = self._qmp.execute
        execute("add-fd", {"fdset-id": n}, [fd])
        file = {
            "driver": driver, "filename": f"/dev/fdset/{n}", "read-only": read_only, "locking": "off",
            "discard": "unmap",
        }  # fmt: skip
        if driver != "file":
            del file["locking"]
        try:
            node = {"driver": "raw", "node-name": f"disk{n}", "read-only": read_only, "file": file}
            execute("blockdev-add", {**node, "discard": "unmap"})
            try:
                execute(
                    "device_add",
                    {
                        "driver": "scsi-hd", "id": f"disk{n}dev", "bus": f"{devices.SCSI}.0", "scsi-id": n, "lun": 0,
                        "drive": f"disk{n}",
                    },
                )  # fmt: skip
            except QmpError:
                execute("blockdev-del", {"node-name": f"disk{n}"})
                raise
        except QmpError:
            execute("remove-fd", {"fdset-id": n})
            raise

    def detach_disk(self, address: str) -> "Steps":
        """One user less; unplug it with the last one (lifecycle 127).

        Errors  VmError; it stays on the list if the guest does not let it go.
        """
        target = int(address.partition(":")[0])
        disk = self._disks.get(target)
        if disk is None or not disk.users:
            raise VmError(f"cannot detach disk {address}: there is none", phase="device")
        disk.users -= 1
        if disk.users:
            return
        disk.file = (-1, -1)  # whoever wants the same file now gets a disk of its own
        yield from self._unplug(f"disk{target}dev")
        self._qmp.execute("blockdev-del", {"node-name": f"disk{target}"})
        self._qmp.execute("remove-fd", {"fdset-id": target})
        del self._disks[target]

    # what the PCI bridge takes

    def attach_share(self, tag: str, fd: int) -> str:
        """Plug in a virtiofs device; the fd is connected to its virtiofsd and stays the caller's.

        Result  its id, for `detach`.
        """
        if not self._shares:
            raise VmError("cannot attach a share: the machine was started for none", phase="device")
        id = self._new_id("share")
        self._qmp.execute("getfd", {"fdname": id}, [fd])
        address = {"type": "fd", "data": {"str": id}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        self._qmp.execute("chardev-add", {"id": id, "backend": backend})
        self._add_to_bridge(
            {"driver": "vhost-user-fs-pci", "id": f"{id}dev", "chardev": id, "tag": tag},
            ("chardev-remove", {"id": id}),
        )
        return id

    def attach_interface(self, tap_fd: int, mac: str) -> str:
        """Plug in a network interface; the tap's fd stays the caller's."""
        if self._profile != devices.Q35:
            raise VmError(
                "cannot attach an interface: a microvm has only those it started with",
                phase="device",
            )
        id = self._new_id("nic")
        self._qmp.execute("getfd", {"fdname": id}, [tap_fd])
        self._qmp.execute("netdev_add", {"type": "tap", "id": id, "fd": id})
        self._add_to_bridge(
            {"driver": "virtio-net-pci", "id": f"{id}dev", "netdev": id, "mac": mac},
            ("netdev_del", {"id": id}),
        )
        return id

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _add_to_bridge(
        self, device: "dict[str, object]", undo: "tuple[str, dict[str, object]]"
    ) -> None:
        try:
            self._qmp.execute("device_add", {**device, "bus": devices.BRIDGE})
        except QmpError:
            self._qmp.execute(*undo)
            raise

    def detach_share(self, id: str) -> "Steps":
        yield from self._unplug(f"{id}dev")
        self._qmp.execute("chardev-remove", {"id": id})

    def detach_interface(self, id: str) -> "Steps":
        yield from self._unplug(f"{id}dev")
        self._qmp.execute("netdev_del", {"id": id})

    def _unplug(self, id: str) -> "Steps":
        gone = self._qmp.until("DEVICE_DELETED", device=id)
        self._qmp.execute("device_del", {"id": id})
        yield self._loop.within(
            gone, timeouts.seconds("DEVICE"), f"the guest, told to let {id} go,"
        )


def _driver(fd: int, status: "posix.stat_result", *, read_only: bool) -> str:
    """QEMU's name for what the fd is: only files and real disks (security V49).

    Errors  VmError; a writable fd for a read-only disk is one, too.
    """
    drivers = {stat.S_IFREG: "file", stat.S_IFBLK: "host_device"}
    driver = drivers.get(stat.S_IFMT(status.st_mode))
    if driver is None:
        raise VmError("cannot attach a disk: it is neither a file nor a disk", phase="device")
    wanted = posix.O_RDONLY if read_only else posix.O_RDWR
    if fcntl.fcntl(fd, fcntl.F_GETFL) & 0o3 != wanted:
        how = "reading only" if read_only else "reading and writing"
        raise VmError(f"cannot attach a disk: it is not open for {how}", phase="device")
    return driver
