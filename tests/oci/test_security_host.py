"""The host's own mount table stays as it is, whatever propagation the spec asks for."""

import subprocess

import pytest
from support.box import Box
from support.spec import fresh_spec

# A mount namespace of its own, shared within itself as a host's is: were a mount or an unmount to travel, it alone
# would suffer.
HOST = """
mount --make-rshared /
cut -d' ' -f4- /proc/self/mountinfo > before
"$@"
cut -d' ' -f4- /proc/self/mountinfo > after
"""


@pytest.mark.parametrize("how", ["", "private", "slave", "shared", "unbindable", "rprivate", "rslave", "rshared"])
@pytest.mark.parametrize("flags", [[], ["--no-pivot"]])
def test_mounts_of_the_host_stay(box: Box, how: str, flags: list[str]) -> None:
    """V22, decisions 17: an unmount of /proc or a new root that travels would be the host's."""
    spec = fresh_spec("echo", "up")
    spec["linux"]["rootfsPropagation"] = how
    runtime = [box.runtime.binary, "--root", str(box.runtime.root), "run", *flags, "--bundle", box.bundle(spec), box.new_id()]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOST, "sh", *runtime],
        cwd=box.dir, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.stdout == "up\n", done
    assert (box.dir / "after").read_text() == (box.dir / "before").read_text()
