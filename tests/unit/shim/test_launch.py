"""How the shim is asked: words, standard input, names."""

import pytest
from support.protos import CLASSES

from skerry.errors import RpcError, UsageError
from skerry.shims.task import address, codes, launch, options, patience, stdio, ttrpc

GO = "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id x"


@pytest.mark.parametrize(
    ("words", "action"),
    [
        (f"{GO} start", "start"),
        (f"{GO} -debug start", "start"),
        (f"{GO} -bundle /b delete", "delete"),
        ("--namespace=k8s.io --id=x start", "start"),
        ("-id start -namespace k8s.io delete", "delete"),
        ("-debug=false -namespace k8s.io start", "start"),
    ],
)
def test_words(words, action):
    flags, found = launch.parse(words.split())
    assert found == action and flags["namespace"] == "k8s.io"
    assert flags["debug"] == (" -debug " in words)


@pytest.mark.parametrize("words", ["-nonsense start", "-id", "-namespace"])
def test_words_that_are_none(words):
    with pytest.raises(UsageError):
        launch.parse(words.split())


def any_of(url: str, message: object) -> bytes:
    return CLASSES["Any"](type_url=url, value=message.SerializeToString()).SerializeToString()


def test_standard_input_of_start():
    runc = CLASSES["RuncOptions"](root="/r", no_pivot_root=True, io_uid=5)
    asked = launch.Asked(any_of("containerd.runc.v1.Options", runc))
    assert not asked.speaks_v3 and not asked.params
    found = options.read(asked.options, "process")
    assert (found.root, found.no_pivot_root, found.io_owner) == ("/r", True, (5, 0))
    assert not launch.Asked(b"").speaks_v3


@pytest.mark.parametrize(
    ("version", "v3"),
    [("v2.3.4", True), ("2.10.0-rc.1", True), ("v2.2.0", False), ("1.7.0", False), ("", False)],
)
def test_bootstrap_parameters(version, v3):
    runc = CLASSES["RuncOptions"](shim_cgroup="/shims")
    params = CLASSES["BootstrapParams"](
        instance_id="x",
        namespace="k8s.io",
        containerd_version=version,
        log_level=-4,
        socket_dir="/s",
    )
    params.extensions.add().value.CopyFrom(
        CLASSES["Any"](type_url="types/containerd.runc.v1.Options", value=runc.SerializeToString())
    )
    asked = launch.Asked(params.SerializeToString())
    assert asked.speaks_v3 is v3
    if version:
        assert asked.debug and asked.params["socket_dir"] == "/s"
        assert options.read(asked.options, "process").shim_cgroup == "/shims"


def test_rubbish_on_standard_input():
    with pytest.raises(RpcError):
        launch.Asked(b"\xff\xff\xff")


def test_options_of_third_parties():
    generic = CLASSES["RuntimeOptions"](type_url="t", config_path="/etc/x")
    read = {"type_url": "runtimeoptions.v1.Options", "value": generic.SerializeToString()}
    assert options.read(read, "process").root == options.DEFAULT_ROOT
    assert options.read(None, "process").root == options.DEFAULT_ROOT
    with pytest.raises(UsageError, match=r"foo\.v1\.Options"):
        options.read({"type_url": "foo.v1.Options", "value": b""}, "process")
    systemd = CLASSES["RuncOptions"](systemd_cgroup=True).SerializeToString()
    with pytest.raises(UsageError, match="SystemdCgroup"):
        options.read({"type_url": "containerd.runc.v1.Options", "value": systemd}, "process")


def test_group():
    cri = {"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}
    both = {"annotations": {"io.containerd.runc.v2.group": "g", **cri["annotations"]}}
    assert address.group(cri, "x") == "pod"
    assert address.group(both, "x") == "g"
    assert address.group({}, "x") == address.group({"annotations": {"a": 1}}, "x") == "x"


def test_address():
    """One for a pod, another for each namespace, containerd and kind of shim; short enough for a socket."""
    made = [
        address.Address("/a", "k8s.io", "pod", "process"),
        address.Address("/a", "moby", "pod", "process"),
        address.Address("/b", "k8s.io", "pod", "process"),
        address.Address("/a", "k8s.io", "pod", "vm"),
        address.Address("/a", "k8s.io", "other", "process"),
    ]
    assert len({each.path for each in made}) == 5
    assert made[0].path == address.Address("/a", "k8s.io", "pod", "process").path
    directory, _, name = made[0].path.rpartition("/")
    assert directory == "/run/containerd/s" and len(name) == 64 and len(made[0].path) < 107


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/run/f", ("fifo", "/run/f")),
        ("fifo:///run/f", ("fifo", "/run/f")),
        ("file:///var/log/x", ("file", "/var/log/x")),
        ("binary:///bin/l?a=b", ("binary", "/bin/l?a=b")),
    ],
)
def test_output_addresses(uri, expected):
    assert stdio.split(uri) == expected


def test_unknown_output():
    with pytest.raises(UsageError, match="npipe"):
        stdio.split("npipe://x")


def test_arguments_of_a_logger():
    assert stdio._arguments("k=v&x=a%20b+c&%zz=%41") == ["k", "v", "x", "a b c", "%zz", "A"]


@pytest.mark.parametrize(
    ("spec", "rootfs", "why"),
    [
        ({}, [], ""),
        ({"hooks": {"poststop": [{}]}}, [], ""),
        ({"hooks": {"startContainer": [{"path": "/x"}]}}, [], "startContainer hooks"),
        ({"mounts": [{"type": "nfs", "source": "s:/x", "destination": "/x"}]}, [], "a mount of type nfs"),
        ({}, [{"type": "fuse3.x", "source": "x", "options": []}], "a mount of type fuse3.x"),
        ({"linux": {"devices": [{"path": "/dev/fuse"}]}}, [], "file systems of its own"),
        ({"linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}}, [], ""),
        ({"linux": {"resources": {"devices": [{"allow": False}, {"allow": True, "access": "rwm"}]}}}, [], "all devices"),
        ({"mounts": [{"type": "bind", "source": "/mnt/nfs/a", "destination": "/x"}]}, [], "a file system of type nfs4"),
        ({"mounts": [{"type": "bind", "source": "/mnt/nfsx", "destination": "/x"}]}, [], ""),
        ({}, [{"type": "overlay", "source": "overlay", "options": ["lowerdir=/l:/mnt/nfs/b"]}], "a file system of type nfs4"),
        ({"root": {"path": "/mnt/nfs"}}, [], "a file system of type nfs4"),
    ],
)  # fmt: skip
def test_what_may_wait(monkeypatch, spec, rootfs, why):
    mounts = ["22 1 0:1 / / rw - ext4 /dev/a rw", "23 22 0:2 / /mnt/nfs rw - nfs4 s:/x rw"]
    monkeypatch.setattr(patience, "_lines", lambda: mounts)
    if "linux" not in spec:
        spec["linux"] = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    assert patience.may_wait(spec, rootfs) == why


def test_codes():
    from skerry import errors

    cases = [
        (errors.NotFound("x"), 5),
        (errors.AlreadyExists("x"), 6),
        (errors.StateError("no", id="x", status="stopped", verb="start"), 9),
        (errors.SpecError("/a", "bad"), 3),
        (errors.KernelError("mount", "x", 1), 2),
        (ttrpc.Failure(12, "none"), 12),
        (ValueError("oops"), 13),
    ]
    for error, code in cases:
        found, message = codes.of(error)
        assert found == code and message and "Traceback" not in message
