"""Storages of a container (docs/vm.md), and that nothing of them is left."""

import base64
import stat

import pytest
from support.agent_client import Refused

SLEEP = ("sleep", "1000")


def overlay(scratch: str) -> list[dict]:
    return [
        {"kind": "disk", "address": "0:0", "fs": "erofs", "read_only": True, "at": "layer0"},
        {"kind": "disk", "address": scratch, "fs": "ext4", "read_only": False, "at": "scratch"},
        {"kind": "overlay", "lower": ["layer0"], "upper": "scratch", "at": "rootfs"},
    ]


def file(at: str, content: bytes, mode: int = 0o644) -> dict:
    return {"kind": "file", "mode": mode, "content": base64.b64encode(content).decode(), "at": at}


def with_mount(spec: dict, id: str, at: str, destination: str, *options: str) -> dict:
    source = f"/run/skerry/storage/{id}/{at}"
    mount = {"destination": destination, "type": "bind", "source": source, "options": ["bind", *options]}
    return {**spec, "mounts": [*spec["mounts"], mount]}


def guests_mounts(place, id: str) -> list[str]:
    """Mount points of the guest itself, by a container that sees its processes."""
    watcher = place.watcher()
    lines = place.look(watcher, "cat", "/proc/1/mountinfo").splitlines()
    place.remove(watcher)
    return [line.split()[4] for line in lines if f"/storage/{id}" in line.split()[4]]


def test_overlay_takes_what_is_written(guest):
    """The rootfs of vm isolation: an image below, a scratch above; what was written is on the scratch."""
    for text in (b"", b"written\n"):
        id = guest.name()
        spec = guest.spec(id, *SLEEP)
        spec["root"]["readonly"] = False
        guest.run(id=id, spec=spec, storages=overlay("1:0"))
        assert guest.execute(id, "sh", "-c", "cat /root/file 2>/dev/null")[1] == text
        end, said = guest.execute(id, "sh", "-c", "echo written > /root/file; rm -f /etc/group; ls /etc")
        assert (end["code"], said) == (0, b"passwd\n")
        assert len(guests_mounts(guest, id)) == 3
        guest.remove(id)
        assert not guests_mounts(guest, id)


def test_image_is_read_only(guest):
    """V43, V47: by QEMU, not by the guest's good will."""
    id = guest.name()
    spec = guest.spec(id, *SLEEP)
    spec["root"]["readonly"] = False
    guest.run(id=id, spec=spec)
    assert guest.execute(id, "touch", "/etc/x")[0]["code"] != 0


def test_files(place):
    """As mounts of the spec name them: resolv.conf, secrets."""
    id = place.name()
    spec = with_mount(place.spec(id, *SLEEP), id, "m1", "/mnt", "ro")
    storages = [*place.storages(), file("m1/a", b"one\n", 0o640), file("m1/b", b"two\n")]
    place.run(id=id, spec=spec, storages=storages)
    said = place.execute(id, "sh", "-c", "cat /mnt/a /mnt/b; stat -c %a /mnt/a /mnt/b; touch /mnt/c 2>/dev/null || echo no")
    assert said[1] == b"one\ntwo\n640\n644\nno\n"


def test_directory_between_containers(place):
    first, second = place.name(), place.name()
    storages = [*place.storages(), {"kind": "directory", "at": "shared"}]
    place.run(id=first, spec=with_mount(place.spec(first, *SLEEP), first, "shared", "/mnt"), storages=storages)
    place.run(id=second, spec=with_mount(place.spec(second, *SLEEP), first, "shared", "/mnt"))
    place.execute(first, "sh", "-c", "echo hello > /mnt/file")
    assert place.execute(second, "cat", "/mnt/file")[1] == b"hello\n"


def test_block_device(guest):
    id = guest.name()
    spec = guest.spec(id, *SLEEP)
    storages = [*guest.storages(), {"kind": "block", "address": "3:0", "read_only": False, "at": "disk"}]
    number = with_mount(spec, id, "disk", "/mnt/disk")
    number["mounts"][-1]["destination"] = "/dev/disk0"
    number["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "access": "rw"}]}
    guest.run(id=id, spec=number, storages=storages)
    end, said = guest.execute(id, "sh", "-c", "echo data > /dev/disk0 && head -c 5 /dev/disk0 && stat -c %F /dev/disk0")
    assert (end["code"], said) == (0, b"data\nblock special file\n")


def test_disks_are_not_a_container_s_to_open(guest):
    """V42: with CAP_MKNOD, too; the control is that the node can be made."""
    id = guest.name()
    spec = guest.spec(id, *SLEEP)
    spec["mounts"].append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"})
    spec["process"]["capabilities"] = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    guest.run(id=id, spec=spec)
    process = {**spec["process"], "args": ["sh", "-c", "mknod /mnt/sda b 8 0; echo $?; cat /mnt/sda"]}
    process["noNewPrivileges"] = False
    streams = guest.client.open_streams("stdout", "stderr")
    guest.client.exec(id, "e", process, streams=streams)
    assert guest.client.exit_of(id, "e")["code"] != 0
    out, err = (guest.client.output(streams[name]) for name in ("stdout", "stderr"))
    assert b"Operation not permitted" in err, (out, err)


@pytest.mark.parametrize(
    "storage",
    [
        {"kind": "disk", "address": "0:0", "fs": "vfat", "read_only": True, "at": "x"},
        {"kind": "overlay", "lower": ["no-such"], "upper": "no-such-either", "at": "x"},
        {"kind": "directory", "at": "../x"},
        {"kind": "directory", "at": "/x"},
        {"kind": "directory", "at": "a//b"},
        {"kind": "file", "mode": 0o644, "content": "!", "at": ".."},
        {"kind": "share", "tag": "no-such-share", "read_only": True, "at": "x"},
    ],
    ids=lambda storage: f"{storage['kind']}-{storage['at']}",
)
def test_what_cannot_be_made(place, storage):
    """The create fails, naming it, and what was made before is undone."""
    id = place.name()
    with pytest.raises(Refused):
        place.create(*SLEEP, id=id, storages=[*place.storages(), file("first", b"x"), storage])
    place.run(*SLEEP, id=id)


def test_inside_another_storage(guest):
    """What lies in a mount may be the container's own, links and all: nothing is made there (V50)."""
    id = guest.name()
    with pytest.raises(Refused, match="inside another storage"):
        guest.create(*SLEEP, id=id, storages=[*guest.storages(), file("rootfs/etc/x", b"x")])


def test_create_that_fails_unmounts(guest):
    id = guest.name()
    with pytest.raises(Refused, match="not found"):
        guest.create("no-such-program", id=id, storages=guest.storages())
    assert not guests_mounts(guest, id)


def test_modes_are_what_was_asked_for(place):
    """P06: whatever the agent's umask."""
    id = place.name()
    storages = [*place.storages(), {"kind": "directory", "at": "d", "mode": 0o1777}]
    place.run(id=id, spec=with_mount(place.spec(id, *SLEEP), id, "d", "/mnt"), storages=storages)
    assert int(place.execute(id, "stat", "-c", "%a", "/mnt")[1], 8) == stat.S_IMODE(0o1777)
