"""A create or run that is interrupted undoes what it made (lifecycle 49, 93)."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skerry import paths
from skerry.linux import process as process_tools

BUSYBOX = Path("/bin/busybox")
SOURCE = paths.install_root()
PROGRAM = (
    *(sys.executable, "-I", "-S", "-B", "-c"),
    f"import sys; sys.path.append({SOURCE!r}); from skerry.cli.main import run; run()",
)
LIMIT_S = 20


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose createRuntime hook says when it runs, and would then wait for ever."""
    if os.geteuid():
        pytest.skip("needs root")
    if not Path(paths.init_path()).exists():
        pytest.skip("skerry-init is not built: make init")
    if not BUSYBOX.exists():
        pytest.skip(f"{BUSYBOX} is not installed")
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tmp_path / "rootfs/bin/sh")
    os.mkfifo(tmp_path / "says")
    os.mkfifo(tmp_path / "waits")
    subprocess.run([*PROGRAM, "spec", "--bundle", tmp_path], check=True, timeout=LIMIT_S)
    config = tmp_path / "config.json"
    spec = json.loads(config.read_bytes())
    spec["process"].update(terminal=False, args=["sh", "-c", "exit 0"])
    spec["process"].pop("rlimits", None)
    script = f"echo $$ > {tmp_path}/says; read x < {tmp_path}/waits"
    spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    config.write_text(json.dumps(spec))
    return tmp_path


def cgroups_named(id):
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{id}")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("verb", [("run",), ("run", "--detach"), ("create",)], ids=" ".join)
def test_interrupted_in_a_hook(bundle, verb, number):
    id = f"interrupted-{os.getpid()}"
    call = (*PROGRAM, "--root", str(bundle / "root"))
    says = os.open(bundle / "says", os.O_RDONLY | os.O_NONBLOCK)
    process = subprocess.Popen(
        [*call, *verb, "--bundle", bundle, id],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert select.select([says], [], [], LIMIT_S)[0], "the hook never ran"
            hook = int(os.read(says, 32))
            assert cgroups_named(id)
            process.send_signal(number)
            _, err = process.communicate(timeout=LIMIT_S)
        finally:
            os.close(says)
            left = (bundle / "root" / id).exists(), cgroups_named(id)
            subprocess.run([*call, "delete", "--force", id], check=False, timeout=LIMIT_S)
    assert (process.returncode, err) == (128 + number, f"skerry {verb[0]} failed: interrupted\n")
    # A child of the hook's is reaped by whoever the machine's init is, when it likes.
    assert not process_tools.start_time(hook) or process_tools.zombie(hook)
    assert left == (False, [])
