"""Assembles an image: kernel, modules, interpreter, skerry.

Runs in: skerry image build, a vmshim's first start.   Imports: hashlib, marshal, os, subprocess, sys; vm.image.*.
Source:  docs/vm.md "Boot".
Never:   takes anything from the user's own site directory, from the environment, or from a network.
"""

import hashlib
import marshal
import os
import subprocess
import sys
import sysconfig

from skerry import paths
from skerry.errors import Error, KernelError
from skerry.jsonio import dumps
from skerry.vm.image import kernel as kernels
from skerry.vm.image import modules
from skerry.vm.image.cache import INITRAMFS, KERNEL, Image, Writer
from skerry.vm.image.cpio import Tree
from skerry.vm.image.libraries import Libraries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1  # of the image; a new number makes all older ones out of date
TARGET = "/usr/lib/skerry"  # where the package is in the guest
# Parts of the package that no guest uses.
_WITHOUT = ["cli", "shims", "vm", "launch.py", "archive.py", "__main__.py"]
# What the interpreter loads by itself, and what tells of a defect.
_EXTRA = ["encodings.ascii", "encodings.latin_1", "traceback"]
# They bring libcrypto, and megabytes, along; hashlib has its own without them.
_NOT_THESE = ["_bz2", "_hashlib", "_lzma", "_ssl", "_uuid"]
_LIBSECCOMP = "libseccomp.so.2"
_INIT = """#!{interpreter} -ISB
import sys
sys.path.append("{target}")
from skerry.agent.main import boot
boot()
"""
_DIRECTORIES = ("/dev", "/etc", "/proc", "/run", "/sys", "/tmp")


def choose_kernel(kernel: str) -> str:
    """Errors  Error for a machine of another kind, or without a kernel."""
    if os.uname().machine != "x86_64":
        raise Error(f"cannot build a guest image on {os.uname().machine}: only x86_64 is known")
    return kernel or kernels.find()


def stamp(kernel: str) -> str:
    """A fingerprint of what an image is made from: names, sizes and times, nothing is read."""
    package = os.path.dirname(paths.init_path())
    inputs = [kernel, own_interpreter(), paths.init_path()]
    for directory, subdirectories, names in os.walk(package):
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        inputs += [f"{directory}/{name}" for name in sorted(names) if name.endswith(".py")]
    digest = hashlib.sha256(f"{FORMAT} {sys.version}\n".encode())
    for path in inputs:
        try:
            status = os.stat(path)
        except OSError as error:
            hint = kernels.PACKAGE if path == kernel else ""
            raise KernelError("read", path, error.errno or 0, hint=hint) from error
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def build(cache: str, kernel: str, progress: "Callable[[str], object]") -> Image:
    """Errors  Error naming what is missing."""
    kernel = choose_kernel(kernel)
    fingerprint = stamp(kernel)
    progress(f"unpacking the kernel {kernel}")
    found = kernels.Kernel(kernel)
    progress(f"choosing modules of {found.release}")
    chosen = modules.select(found.release)
    tree = Tree()
    for directory in _DIRECTORIES:
        tree.directory(directory)
    # The kernel opens it for pid 1 before there is a devtmpfs.
    tree.character_device("/dev/console", 5, 1, 0o600)
    for number, (name, content) in enumerate(chosen):
        tree.file(f"{TARGET}/modules/{number:02}-{name}.ko", content)
    progress("compiling the interpreter's library and skerry")
    _add_python(tree)
    with open(paths.init_path(), "rb") as file:
        tree.file(f"{TARGET}/skerry/{paths.INIT}", file.read(), executable=True)
    with Writer(cache) as writer:
        progress("writing the image")
        with open(writer.path(KERNEL), "wb") as file:
            file.write(found.vmlinux)
        with open(writer.path(INITRAMFS), "wb") as file:
            tree.write(file)
        return writer.finish(
            {
                "stamp": fingerprint,
                "release": found.release,
                "kernel": kernel,
                "python": sys.version.split(" ", 1)[0],
                "skerry": paths.version(),
                "modules": [name for name, _ in chosen],
            }
        )


def own_interpreter() -> str:
    """The interpreter's own file; in a virtual environment that of its parent."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _add_python(tree: Tree) -> None:
    """The interpreter where it is here, so that it finds its library; libraries where its linker looks."""
    interpreter = own_interpreter()
    frozen = _freeze(interpreter)
    for path, content in frozen["files"].items():
        tree.file(path, content)
    libraries = Libraries()
    libraries.add(interpreter)
    for path in frozen["extensions"]:
        libraries.add(path)
    libraries.add_by_name(_LIBSECCOMP, package="libseccomp2")
    for path, source in libraries.files.items():
        with open(source, "rb") as file:
            tree.file(path, file.read(), executable=True)
    # By this directory the interpreter knows where its extensions are, whether or not there are any.
    tree.directory(f"{sysconfig.get_path('platstdlib')}/lib-dynload")
    tree.file(
        "/init", _INIT.format(interpreter=interpreter, target=TARGET).encode(), executable=True
    )


def _freeze(interpreter: str) -> "dict[str, dict[str, bytes]]":
    wanted = {
        "package": os.path.dirname(paths.init_path()),
        "parts": _WITHOUT,
        "target": TARGET,
        "extra": _EXTRA,
        "without": _NOT_THESE,
    }
    script = os.path.join(os.path.dirname(__file__), "freeze.py")
    command = [interpreter, "-I", "-S", "-B", "-X", "no_debug_ranges", script]
    try:
        done = subprocess.run(
            command,
            input=dumps(wanted),
            capture_output=True,
            env={},
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        last = (getattr(error, "stderr", b"") or b"").decode("utf-8", "replace").strip()
        cause = last.rpartition("\n")[2] or error
        raise Error(f"cannot compile the guest's modules with {interpreter}: {cause}") from error
    answer: dict[str, dict[str, bytes]] = marshal.loads(done.stdout)
    return answer
