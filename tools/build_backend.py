"""Build backend of PEP 517: a wheel of sources, bytecode and two static programs; an archive.

Runs in: pip, `make wheel`, `make dist`.   Imports: the standard library only.
Source:  PEP 427 (wheel), PEP 517, PEP 639; the recipe of the C programs is the Makefile's.
Never:   fetches anything.

An ordinary backend would have to be fetched, and taught three things about this package: that a
"script" may be a program, that the platform matters although the sources do not, and which
bytecode to carry.
"""

import base64
import hashlib
import io
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
EPOCH = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the oldest time of a zip archive: the same sources give the same wheel
PROGRAM, DATA = 0o100755, 0o100644


def project() -> dict[str, object]:
    return tomllib.loads((TOP / "pyproject.toml").read_text())["project"]


def release() -> str:
    about = project()
    return f"{about['name']}-{about['version']}"


def build_wheel(
    wheel_directory: str, config_settings: object = None, metadata_directory: object = None
) -> str:
    compile_programs()
    files = {f"skerry/{name}": entry for name, entry in package().items()}
    # One program under three names; it chooses by its own what to be.
    for name in ("skerry", "containerd-shim-skerry-v2", "containerd-shim-skerry-vm-v2"):
        files[f"{release()}.data/scripts/{name}"] = (read("build/wheel/skerry"), PROGRAM)
    return write_wheel(Path(wheel_directory), files)


def compile_programs() -> None:
    for tool in ("make", "gcc"):
        if not shutil.which(tool):
            sys.exit(f"skerry: cannot build the wheel: {tool} is not installed")
    # SETUP=true: pip is no occasion to install packages of the system.
    command = ["make", "-s", "-C", str(TOP), "SETUP=true", "wheel-programs"]
    subprocess.run(command, check=True, stdout=sys.stderr)


def package() -> dict[str, tuple[bytes, int]]:
    """The package's sources, their bytecode for this interpreter, and skerry-init."""
    archive = all_modules()
    files = {"skerry-init": (read("src/skerry/skerry-init"), PROGRAM)}
    for source in sorted((TOP / "src/skerry").rglob("*.py")):
        name = source.relative_to(TOP / "src/skerry")
        files[str(name)] = (source.read_bytes(), DATA)
        cached = name.parent / "__pycache__" / f"{name.stem}.{sys.implementation.cache_tag}.pyc"
        files[str(cached)] = (bytecode(source, f"skerry/{name}"), DATA)
    files[archive.name] = (archive.read_bytes(), DATA)
    return files


def all_modules() -> Path:
    """The modules in one file, as `make install` makes it (src/skerry/archive.py)."""
    tree = TOP / "build/wheel/tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(TOP / "src/skerry", tree / "skerry")
    command = [sys.executable, "-X", "no_debug_ranges", str(TOP / "tools/make_archive"), str(tree)]
    subprocess.run([*command, "site-packages"], check=True)
    (archive,) = (tree / "skerry").glob("skerry.*.modules")
    return archive


def bytecode(source: Path, shown_name: str) -> bytes:
    """Compile without a time stamp: what unpacks the wheel sets new ones."""
    target = TOP / "build/wheel/bytecode.pyc"
    py_compile.compile(
        str(source),
        cfile=str(target),
        dfile=shown_name,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return target.read_bytes()


def read(name: str) -> bytes:
    return (TOP / name).read_bytes()


def write_wheel(directory: Path, files: dict[str, tuple[bytes, int]]) -> str:
    info = f"{release()}.dist-info"
    tag = f"py3-none-linux_{platform.machine()}"
    files[f"{info}/METADATA"] = (metadata(), DATA)
    files[f"{info}/licenses/LICENSE"] = (read("LICENSE"), DATA)
    wheel = f"Wheel-Version: 1.0\nGenerator: skerry\nRoot-Is-Purelib: false\nTag: {tag}\n"
    files[f"{info}/WHEEL"] = (wheel.encode(), DATA)
    record = [f"{name},sha256={digest(data)},{len(data)}" for name, (data, _) in files.items()]
    record.append(f"{info}/RECORD,,\n")
    files[f"{info}/RECORD"] = ("\n".join(record).encode(), DATA)

    path = directory / f"{release()}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (data, mode) in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = mode << 16
            archive.writestr(entry, data)
    return path.name


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def metadata() -> bytes:
    about = project()
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {about['name']}",
        f"Version: {about['version']}",
        f"Summary: {about['description']}",
        f"License-Expression: {about['license']}",
        "License-File: LICENSE",
        f"Requires-Python: {about['requires-python']}",
        "Description-Content-Type: text/markdown",
        "",
        (TOP / str(about["readme"])).read_text(),
    ]
    return "\n".join(lines).encode()


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Everything git knows, or, unpacked from an archive, everything that came with it."""
    path = Path(sdist_directory) / f"{release()}.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in tracked():
            archive.add(TOP / name, f"{release()}/{name}", recursive=False, filter=anonymous)
        archive.addfile(*member(f"{release()}/PKG-INFO", metadata()))
    return path.name


def tracked() -> list[str]:
    listing = subprocess.run(["git", "-C", str(TOP), "ls-files", "-z"], capture_output=True)
    if listing.returncode == 0:
        return [name for name in os.fsdecode(listing.stdout).split("\0") if name]
    found = (path.relative_to(TOP) for path in sorted(TOP.rglob("*")) if path.is_file())
    made = {"build", "dist", "bin", ".venv"}
    return [str(p) for p in found if p.parts[0] not in made and "__pycache__" not in p.parts]


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def member(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    return entry, io.BytesIO(data)


if __name__ == "__main__":
    made = {"wheel": build_wheel, "sdist": build_sdist}
    for kind in sys.argv[1:]:
        print("dist/" + made[kind](str(TOP / "dist")))
