"""The plan of mounts on the host."""

import pytest
from support.plans import Listing

from skerry.errors import SpecError
from skerry.plan import host_mounts
from skerry.plan.request import Request

MS_RDONLY, MS_NOSUID, MS_BIND, MS_REC, MS_NOATIME, MS_PRIVATE = 1, 2, 4096, 16384, 1024, 1 << 18


def plan(*mounts: dict) -> Listing:
    full = [{"type": "", "source": "", "target": "", "options": [], **mount} for mount in mounts]
    return Listing(host_mounts.build(Request("x86_64", "", {}, None), full, "/b/rootfs"))


def test_overlay():
    options = [
        "index=off",
        "workdir=/s/w",
        "upperdir=/s/u",
        "lowerdir=/s/1:/s/2",
        "nosuid",
        "noatime",
        "ro",
    ]
    call = plan({"type": "overlay", "source": "overlay", "options": options}).find("mount")[0]
    source, target, kind, flags, data = call.args
    assert (source, target, kind) == ("overlay", "/b/rootfs", "overlay")
    assert flags == MS_RDONLY | MS_NOSUID | MS_NOATIME
    assert data == "index=off,workdir=/s/w,upperdir=/s/u,lowerdir=/s/1:/s/2"


def test_bind():
    listing = plan({"type": "bind", "source": "/src", "options": ["rbind", "ro", "rprivate"]})
    bind, propagation = listing.find("mount")
    assert bind.args[3] == MS_BIND | MS_REC and bind.args[4] == 0
    assert propagation.args[3] == MS_PRIVATE | MS_REC
    attributes = listing.find("mount_setattr")[0]
    assert attributes.args[3][:8] == b"\1" + bytes(7)


def test_target_below():
    assert plan({"type": "tmpfs", "target": "/a/b"}).find("mount")[0].args[1] == "/b/rootfs/a/b"
    with pytest.raises(SpecError, match=r"/rootfs/0/target"):
        plan({"type": "tmpfs", "target": "../../etc"})


def test_long_layers_are_shortened():
    layers = [f"/var/lib/containerd/snapshots/{n:06}/fs" for n in range(200)]
    options = [
        "upperdir=/var/lib/containerd/snapshots/u/fs",
        "workdir=/var/lib/containerd/snapshots/u/work",
    ]
    listing = plan(
        {
            "type": "overlay",
            "source": "overlay",
            "options": [*options, "lowerdir=" + ":".join(layers)],
        }
    )
    assert listing.find("chdir")[0].args[0] == "/var/lib/containerd/snapshots/"
    data = listing.find("mount")[0].args[4]
    assert len(data) <= 4095 and "lowerdir=000000/fs:000001/fs" in data and "upperdir=u/fs" in data


@pytest.mark.parametrize("option", ["loop", "uidmap=0:1:2"])
def test_what_is_not_supported_is_named(option):
    with pytest.raises(SpecError, match=f"/rootfs/0/options/0: {option}"):
        plan({"type": "overlay", "options": [option]})
