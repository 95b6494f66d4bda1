"""An OCI image made on the spot, as the archive that `ctr images import` takes.

Source: image-spec image-layout.md, config.md.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MEDIA = "application/vnd.oci.image."


def write(archive: Path, rootfs: Path, name: str, *, command: list[str], machine: str) -> None:
    """Pack a directory as an image of one layer."""
    layer = layer_of(rootfs)
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin:/usr/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created_by": "tests"}],
    }
    blobs = [layer, json.dumps(config).encode()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}manifest.v1+json",
        "config": describe(blobs[1], "config.v1+json"),
        "layers": [describe(layer, "layer.v1.tar")],
    }
    blobs.append(json.dumps(manifest).encode())
    top = describe(blobs[2], "manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [top | {"annotations": {"io.containerd.image.name": name}}],
    }
    files = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in blobs}
    files |= {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
    }
    with tarfile.open(archive, "w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def layer_of(rootfs: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(rootfs, arcname=".", filter=owned_by_root)
    return out.getvalue()


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    return entry


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def describe(data: bytes, kind: str) -> dict:
    return {"mediaType": MEDIA + kind, "digest": digest(data), "size": len(data)}
