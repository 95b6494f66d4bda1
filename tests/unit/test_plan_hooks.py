"""Hooks that run inside (decisions 28)."""

import errno
import json

import pytest
from support.plans import Listing, in_order, made, small_spec

from skerry.plan.hooks import PID_BYTES, pid_digits, template

STATE = {"ociVersion": "1.3.0", "id": "box", "status": "creating", "pid": 0, "bundle": "/bundle"}
GO, HOOKS = 16, 3


def with_hooks(**hooks: list) -> Listing:
    spec = small_spec()
    spec["hooks"] = hooks
    states = {name: template(STATE) for name in hooks if name in ("createContainer", "startContainer")}
    return made(spec, hook_states=states)


def test_pid_is_filled_in_where_json_has_room() -> None:
    """Blanks before a number mean nothing (RFC 8259)."""
    raw = template(STATE)
    for pid in (1, 4194304):
        filled = raw.replace(b"9" * PID_BYTES, pid_digits(pid))
        assert len(filled) == len(raw)
        assert json.loads(filled) == {**STATE, "pid": pid}


def test_annotation_that_looks_like_a_pid_is_left_alone() -> None:
    state = {**STATE, "annotations": {"a": '"pid":9999999999'}}
    spec = small_spec()
    spec["hooks"] = {"createContainer": [{"path": "/h"}]}
    listing = made(spec, hook_states={"createContainer": template(state)})
    receive, hook = listing.one("RECV", GO, step="host's hooks"), listing.one("HOOK")
    place = receive.op.args[1].offset - hook.op.args[3].offset
    raw = bytearray(template(state))
    raw[place : place + PID_BYTES] = pid_digits(7)
    assert json.loads(raw) == {**state, "pid": 7}


def test_host_s_hooks_are_due_always() -> None:
    """The parent sets the limits there too."""
    listing = made()
    in_order(listing.one("SEND", HOOKS, 0, -1), listing.one("RECV", GO, step="host's hooks"))
    assert not listing.find("HOOK")


def test_create_container() -> None:
    """In the container's namespaces with the host's root; cwd is the rootfs; a sane umask for what they make."""
    listing = with_hooks(createContainer=[{"path": "/h", "args": ["h", "x"], "env": ["A=1"], "timeout": 5}, {"path": "/i"}])
    first, second = listing.find("HOOK")
    assert (first.args[0], second.args[0]) == ("/h", "/i")
    assert (first.args[5], second.args[5]) == (5000, 0)
    assert first.pointer == "/hooks/createContainer/0" and second.pointer == "/hooks/createContainer/1"
    in_order(
        listing.one("fchdir", step="mount the rootfs"),
        listing.one("RECV", GO, step="host's hooks"),
        listing.one("umask", 0o022, process="skerry:2:init", step="host's hooks"),
        first,
        second,
        listing.find("umask", 0)[-1],
        listing.one("pivot_root"),
    )


@pytest.mark.parametrize("where", ["createContainer", "startContainer"])
def test_environment(where: str) -> None:
    """decisions 28: a container hook without env gets process.env; an empty list is no environment."""
    listing = with_hooks(**{where: [{"path": "/a"}, {"path": "/b", "env": []}, {"path": "/c", "env": ["X=1"]}]})
    counts = [len([w for w in op.words(2) if w]) for op in listing.find("HOOK")]
    assert counts == [2, 0, 1]  # PATH and HOME; none; X


def test_arguments() -> None:
    """runtime-spec: args as execv's argv; without it the path alone."""
    listing = with_hooks(startContainer=[{"path": "/a"}, {"path": "/b", "args": ["name", "x"]}])
    assert [len([w for w in op.words(1) if w]) for op in listing.find("HOOK")] == [1, 2]


def test_start_container_runs_behind_the_gate_with_its_own_state() -> None:
    listing = with_hooks(startContainer=[{"path": "/a"}])
    hook = listing.one("HOOK")
    receive = listing.one("RECV", GO, step="wait to be on record")
    assert receive.args[2] == PID_BYTES
    assert hook.op.args[3].offset < receive.op.args[1].offset < hook.op.args[3].offset + hook.args[4]
    assert hook.args[4] == len(template(STATE))
    in_order(receive, listing.one("GATE"), hook, listing.one("execve"))


def test_what_a_hook_fails_with() -> None:
    listing = with_hooks(createContainer=[{"path": "/a", "timeout": 3}])
    hints = listing.one("HOOK").hints
    assert hints[errno.ENOENT] == "no such file or directory"
    assert "3 s" in hints[errno.ETIMEDOUT]
    assert listing.one("HOOK").step == "run createContainer hook #0 /a"
