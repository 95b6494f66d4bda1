"""The store where there is no room and no right to write (security.md 6, ENOSPC and read-only)."""

import subprocess
import sys

import pytest

PRELUDE = """
import os, sys
sys.path[:0] = sys.argv[1].split(":")
from skerry.errors import Error, KernelError, NotFound
from skerry.state.store import Store
root = sys.argv[2] + "/root"
store = Store(root)
def refused(action, word):
    try:
        action()
    except KernelError as error:
        assert word in str(error), error
        return
    raise AssertionError("not refused")
"""

FULL = """
store.create_many("c", {"state": {"ID": "c"}, "pid": 1, "spec": 2})
store.create("d", "state", 1)
with open(sys.argv[2] + "/ballast", "wb", buffering=0) as file:
    try:
        while file.write(b"x" * 512): pass
    except OSError: pass
before = sorted(os.listdir(root + "/c"))
refused(lambda: store.create_many("e", {"state": "x" * 10000}), "ENOSPC")
refused(lambda: store.set("c", "pid", "x" * 10000), "ENOSPC")
assert sorted(os.listdir(root + "/c")) == before
assert os.listdir(root + "/@tmp") == []
fresh = Store(root)
assert fresh.ids() == ["c", "d"]
assert fresh.get("c", "state") == {"ID": "c"}
assert fresh.get("c", "pid") == 1
os.close(fresh.lock("c"))
fresh.clear("c", "pid")
fresh.remove("c")
fresh.remove("d")
assert fresh.ids() == []
assert os.listdir(root + "/@tmp") == []
print("seen")
"""

READ_ONLY = """
store.create("c", "state", 1)
assert os.system("mount -o remount,ro " + sys.argv[2]) == 0
fresh = Store(root)
assert fresh.ids() == ["c"]
assert fresh.get("c", "state") == 1
os.close(fresh.lock("c"))
refused(lambda: fresh.create("e", "state", 1), "EROFS")
refused(lambda: fresh.set("c", "pid", 1), "EROFS")
refused(lambda: fresh.clear("c", "state"), "EROFS")
refused(lambda: fresh.remove("c"), "EROFS")
assert fresh.ids() == ["c"]
refused(lambda: Store(sys.argv[2] + "/other").create("c", "state", 1), "EROFS")
print("seen")
"""

MOUNTED = """
store.create("c", "state", 1)
os.mkdir(root + "/c/volume")
os.mkdir(sys.argv[2] + "/data")
os.mkdir(sys.argv[2] + "/data/directory")
open(sys.argv[2] + "/data/precious", "w").close()
assert os.system(f"mount --bind {sys.argv[2]}/data {root}/c/volume") == 0
store.remove("c")
assert store.ids() == []
assert sorted(os.listdir(sys.argv[2] + "/data")) == ["directory", "precious"]
store.create("c", "state", 2)
(grave,) = os.listdir(root + "/@tmp")
assert os.system(f"umount {root}/@tmp/{grave}/volume") == 0
store.remove("c")
assert os.listdir(root + "/@tmp") == []
assert sorted(os.listdir(sys.argv[2] + "/data")) == ["directory", "precious"]
print("seen")
"""


@pytest.mark.parametrize(
    ("script", "options"),
    [(FULL, "size=64k"), (READ_ONLY, "size=1m"), (MOUNTED, "size=1m")],
    ids=["full", "read-only", "mounted"],
)
def test_on_a_file_system_of_its_own(tmp_path, script, options):
    """full: kill, delete and state need no free byte. mounted: what lies there is not deleted."""
    mount = f'mount -t tmpfs -o {options},mode=700 none "$2"'
    command = [
        *("unshare", "-m", "sh", "-c", f'{mount} && exec /usr/bin/python3 -S -c "$3" "$1" "$2"'),
        *("sh", ":".join(sys.path), tmp_path, PRELUDE + script),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("seen\n", "")
