"""Layers: an overlay of directories in the place of root.path. lifecycle 36, 152, 158."""

import json
import os
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.rootfs import copy_template
from support.spec import fresh_spec, shell, user_namespace

pytestmark = pytest.mark.skerry_only("lifecycle 36: layers are skerry's own")

ANNOTATION = "run.skerry.layers"


def layered(box: Box, spec: dict, *, where: Path | None = None) -> tuple[Path, list[Path]]:
    """Write a bundle without a rootfs, whose spec names three layers (the last has the programs) and a scratch."""
    bundle = box.bundle({}, rootfs=False)
    where = where or box.dir / f"layers-{bundle.name}"
    layers = [where / name for name in ("top", "middle", "base", "scratch")]
    for layer in layers:
        layer.mkdir(parents=True)
    copy_template(box.template, layers[2])
    for n, layer in enumerate(layers[:3]):
        (layer / f"only-{layer.name}").write_text(f"{layer.name}\n")
        for above in layers[: n + 1]:
            (layer / f"highest-{above.name}").write_text(f"{layer.name}\n")
    write(bundle, spec, layers)
    return bundle, layers


def write(bundle: Path, spec: dict, layers: list) -> None:
    spec.pop("root", None)
    spec.setdefault("annotations", {})[ANNOTATION] = json.dumps([str(layer) for layer in layers])
    (bundle / "config.json").write_text(json.dumps(spec))


def content(directory: Path) -> dict[str, object]:
    """Everything in a tree that a write would change."""
    found = {}
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            status = os.lstat(path := os.path.join(top, name))
            data = Path(path).read_bytes() if name in files and not os.path.islink(path) else b""
            found[path] = (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ino, data)
    return found


def test_files_of_each_layer_without_a_root(box: Box) -> None:
    """lifecycle 36, 158: all layers show, and of equal names the topmost one's."""
    bundle, _ = layered(box, shell("cat /only-* /highest-*"))
    words = box.run(None, bundle=bundle).ok().out.split()
    assert words == ["base", "middle", "top", "base", "middle", "top"]


def test_layers_win_over_the_root(box: Box) -> None:
    """lifecycle 36."""
    bundle, layers = layered(box, spec := shell("cat /only-top"))
    (bundle / "empty").mkdir()
    spec["root"] = {"path": "empty"}
    spec["annotations"] = {ANNOTATION: json.dumps([str(layer) for layer in layers])}
    (bundle / "config.json").write_text(json.dumps(spec))
    assert box.run(None, bundle=bundle).ok().out == "top\n"


def test_neither_layers_nor_root(box: Box) -> None:
    """lifecycle 36."""
    spec = fresh_spec()
    del spec["root"]
    box.refuses(spec, "must provide either layers or root.path")


def test_writes_go_to_the_scratch_alone(box: Box) -> None:
    """lifecycle 36, 121: the layers stay as they were, what was written is there the next time."""
    script = "cat /new 2>/dev/null; echo kept > /new; echo x >> /only-base; rm /only-middle; mkdir -p /a/b"
    bundle, layers = layered(box, shell(script))
    before = [content(layer) for layer in layers[:3]]
    assert box.run(None, bundle=bundle).ok().out == ""
    assert box.run(None, bundle=bundle).ok().out == "kept\n"
    assert [content(layer) for layer in layers[:3]] == before
    assert (layers[3] / "upper/new").read_text() == "kept\n"


def test_read_only_root(box: Box) -> None:
    bundle, layers = layered(box, spec := shell("touch /new; cat /only-top"))
    spec["root"] = {"path": "", "readonly": True}
    spec["root"]["path"] = "unused"
    (bundle / "config.json").write_text(json.dumps(spec))
    result = box.run(None, bundle=bundle).ok()
    assert "Read-only file system" in result.err
    assert result.out == "top\n"
    assert not (layers[3] / "upper/new").exists()


def test_paths_of_layers_are_judged_one_by_one(box: Box) -> None:
    """lifecycle 35, 152: relative ones are below the bundle, whatever the others and root.path are."""
    bundle, layers = layered(box, spec := shell("cat /only-top /only-base"))
    layers[0].rename(bundle / "top")
    spec["root"] = {"path": "/"}
    spec["annotations"] = {ANNOTATION: json.dumps(["top", *map(str, layers[1:])])}
    (bundle / "config.json").write_text(json.dumps(spec))
    assert box.run(None, bundle=bundle, cwd="/").ok().out == "top\nbase\n"


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a:,\\:b", "lowerdir=x,ro", " a b", "ä"])
def test_paths_with_what_mount_takes_for_its_own(box: Box, name: str) -> None:
    """lifecycle 36."""
    bundle, layers = layered(box, shell("cat /only-*; echo x > /new"), where=box.dir / name / f"{name}:1")
    assert box.run(None, bundle=bundle).ok().out == "base\nmiddle\ntop\n"
    assert (layers[3] / "upper/new").read_text() == "x\n"


def test_long_paths(box: Box) -> None:
    """lifecycle 36: what the layers' paths have in common does not count."""
    deep = box.dir.joinpath(*["x:," + "y" * 200] * 12)
    bundle, _ = layered(box, shell("cat /only-*"), where=deep)
    assert box.run(None, bundle=bundle).ok().out == "base\nmiddle\ntop\n"


def test_too_many_layers_are_refused(box: Box) -> None:
    """lifecycle 36: mount(2) would drop what does not fit, without a word."""
    bundle, layers = layered(box, spec := fresh_spec())
    more = []
    for n in range(30):
        (path := box.dir / f"{n}-{'x' * 200}").mkdir()
        more.append(path)
    write(bundle, spec, [*more, *layers])
    box.refuses(None, ANNOTATION, "too long", bundle=bundle)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "JSON"), ("{}", "JSON list"), ("[]", "at least one layer"), ('["/tmp"]', "at least one layer"),
        ('["/tmp", 1]', "JSON list"), ('["/nowhere", "/tmp"]', "cannot open /nowhere"),
        ('["/etc/passwd", "/tmp"]', "/etc/passwd is not a directory"),
        ('["/tmp", "/etc/passwd"]', "/etc/passwd is not a directory (a scratch disk needs a virtual machine)"), ('["/tmp", ""]', "JSON list"),
    ],
)  # fmt: skip
def test_bad_layers(box: Box, value: str, text: str) -> None:
    """lifecycle 36, 54."""
    spec = fresh_spec()
    spec["annotations"] = {ANNOTATION: value}
    box.refuses(spec, ANNOTATION) if text == "JSON" else box.refuses(spec, ANNOTATION, text)


def test_user_namespace(box: Box) -> None:
    """lifecycle 36: the overlay is the host's, its owners show as the namespace maps them."""
    spec = shell("stat -c %u:%g /only-top /; echo x > /new && stat -c %u /new")
    user_namespace(spec)
    bundle, layers = layered(box, spec)
    for layer in layers[:3]:
        for top, directories, files in os.walk(layer):
            for name in (".", *directories, *files):
                os.chown(os.path.join(top, name), 100000, 100000, follow_symlinks=False)
    assert box.run(None, bundle=bundle).ok().out.split() == ["0:0", "0:0", "0"]
    assert os.stat(layers[3] / "upper/new").st_uid == 100000


def test_root_is_as_that_of_the_topmost_layer(box: Box) -> None:
    bundle, layers = layered(box, fresh_spec("stat", "-c", "%a %u", "/"))
    layers[0].chmod(0o1751)
    os.chown(layers[0], 7, 7)
    assert box.run(None, bundle=bundle, umask=0o77).ok().out == "1751 7\n"


def test_state_names_the_mount_point_and_the_host_does_not_see_the_mount(box: Box) -> None:
    """lifecycle 36, 54, 101: the overlay is in the container's mount namespace alone, and goes with it."""
    bundle, _ = layered(box, fresh_spec("probe", "park"))
    container = box.create(None, bundle=bundle).start()
    container.stream.until("ready")
    rootfs = container.state()["rootfs"]
    assert rootfs == str(box.runtime.root / container.id / "rootfs")
    assert os.listdir(rootfs) == []
    assert not [row for row in host.mountinfo() if row["kind"] == "overlay" and str(box.dir) in str(row)]
    root = next(row for row in host.mountinfo(container.pid) if row["point"] == "/")
    assert root["kind"] == "overlay"
    assert container.exec("cat", "/only-middle").ok().out == "middle\n"
    container.delete("--force").ok()
    assert not os.path.exists(rootfs)


def test_hooks_see_the_layers(box: Box) -> None:
    """lifecycle 129: the directory of createContainer hooks is the overlay."""
    spec = fresh_spec()
    script = f"cat only-top > {box.dir}/seen"
    spec["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    bundle, _ = layered(box, spec)
    box.run(None, bundle=bundle).ok()
    assert (box.dir / "seen").read_text() == "top\n"


def test_plan_of_layers(box: Box) -> None:
    """The plan can be read before anything is made."""
    bundle, layers = layered(box, fresh_spec())
    text = box.runtime.call("plan", "--bundle", bundle).ok().out
    assert "overlay" in text and "lowerdir=top:middle:base" in text
    assert os.listdir(layers[3]) == []


def test_members_of_a_pod_may_not_choose_layers(box: Box) -> None:
    """lifecycle 32."""
    bundle, layers = layered(box, spec := fresh_spec())
    spec["annotations"]["io.kubernetes.cri.container-type"] = "sandbox"
    write(bundle, spec, layers)
    box.refuses(None, ANNOTATION, "not permitted", bundle=bundle)
