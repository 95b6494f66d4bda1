"""No hostile file makes the runtime wait for ever."""

import json
import os

import pytest
from support import leaks
from support.box import Box
from support.silent_fuse import SilentFile
from support.spec import add_mount, fresh_spec

LIMIT_S = 1


@pytest.mark.skerry_only("security 1.9: every wait has a deadline; runc and crun have none here")
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse here")
@pytest.mark.slow
@pytest.mark.parametrize("verb", ["create", "exec"])
def test_passwd_that_never_answers(box: Box, verb: str) -> None:
    """V38, threat model 9: the passwd file, read to find HOME, is one of a FUSE file system."""
    where = box.bundle(fresh_spec("probe", "park"))
    passwd = where / "rootfs/etc/passwd"
    limits = {f"SKERRY_TIMEOUT_{name}": str(LIMIT_S) for name in ("CREATE", "START")}
    if verb == "create":
        with SilentFile(passwd) as file:
            result = box.try_create(None, bundle=where, env=limits).failed(1)
    else:
        spec = fresh_spec("probe", "park")
        spec["process"]["env"].append("HOME=/")
        add_mount(spec, "/etc/passwd", "bind", passwd, "bind")
        with SilentFile(passwd) as file:
            container = box.start(spec)
            process = box.dir / "process"
            process.write_text(json.dumps({**spec["process"], "args": ["true"], "env": []}))
            result = box.runtime.call("exec", "--process", process, container.id, env=limits).failed(255)
            container.end()
    assert file.asked.is_set()
    result.says(f"no answer within {LIMIT_S} s")
    box.runtime.call("delete", "--force", box.ids[-1])
    assert leaks.settle(box.leftovers) == []
