"""skerry exec: the process it builds, and how it ends."""

import pytest
from fake_core import PROCESS, state_error

HOW = {
    "stdio": (0, 1, 2),
    "console_socket": "",
    "detach": False,
    "preserve_fds": 0,
    "pid_file": "",
    "cgroup": "",
    "ignore_paused": False,
    "pidfd_socket": "",
}


def processed(core, skerry, *words):
    code, _, err = skerry("exec", *words)
    assert (code, err) == (0, "")
    return next(call[1][0] for call in core.calls if call[0] == "exec")


def test_stored_process_is_the_base(core, skerry):
    """lifecycle 97: args replaced, a terminal only when asked for, the rest as stored."""
    process = processed(core, skerry, "c1", "ls", "-t", "--help")
    assert process == {**PROCESS, "args": ["ls", "-t", "--help"], "terminal": False}
    assert core.options_of("exec") == HOW


def test_options(core, skerry):
    words = (
        "-t --cwd /w --apparmor p --process-label l --no-new-privs -e A=1 -c CAP_CHOWN -g 8 -g 9"
    )
    process = processed(core, skerry, *words.split(), "c1", "true")
    assert process["terminal"] is True
    assert process["cwd"] == "/w"
    assert process["apparmorProfile"] == "p"
    assert process["selinuxLabel"] == "l"
    assert process["noNewPrivileges"] is True
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7, 8, 9]}


def test_how(core, skerry, tmp_path, monkeypatch):
    """lifecycle 33, 98"""
    monkeypatch.chdir(tmp_path)
    words = "--detach --console-socket s --pid-file p --preserve-fds 3 --cgroup sub --ignore-paused"
    words += " --pidfd-socket q"
    assert skerry("exec", *words.split(), "c1", "true") == (0, "", "")
    assert core.options_of("exec") == {
        "stdio": (0, 1, 2),
        "console_socket": f"{tmp_path}/s",
        "detach": True,
        "preserve_fds": 3,
        "pid_file": f"{tmp_path}/p",
        "cgroup": "sub",
        "ignore_paused": True,
        "pidfd_socket": f"{tmp_path}/q",
    }
    assert "wait" not in core.names()


def test_environment(core, skerry):
    """lifecycle 97: the last of equal names wins, and is there once."""
    process = processed(core, skerry, "-e", "TERM=a", "-e", "B=", "-e", "TERM=b", "c1", "true")
    assert process["env"] == ["PATH=/bin", "TERM=b", "B="]


def test_capabilities(core, skerry):
    """V10: --cap never fills the inheritable or ambient set."""
    sets = processed(core, skerry, "--cap", "CAP_NET_RAW", "c1", "true")["capabilities"]
    assert sets == dict.fromkeys(
        ("bounding", "effective", "permitted"), ["CAP_KILL", "CAP_NET_RAW"]
    )


@pytest.mark.parametrize(
    ("text", "uid", "gid"),
    [
        ("0", 0, 6),
        ("1", 1, 6),
        ("1000", 1000, 6),
        ("1000:0", 1000, 0),
        ("007:8", 7, 8),
        ("2147483648", 2147483648, 6),
        ("4294967294:4294967294", 4294967294, 4294967294),
    ],
)
def test_user(core, skerry, text, uid, gid):
    """V01, V25, V37"""
    user = processed(core, skerry, "--user", text, "c1", "true")["user"]
    assert user == {"uid": uid, "gid": gid, "additionalGids": [7]}


BAD_USERS = [
    "-1",
    "4294967295",
    "4294967296",
    "0x10",
    "1x",
    "",
    " 1",
    "1 ",
    "+1",
    "1_0",
    "１",
    "root",
    ":",
    "1:",
    ":1",
    "1:2:3",
    "1:-1",
    "1:4294967295",
    "9" * 5000,
]


@pytest.mark.parametrize("text", BAD_USERS)
def test_bad_users(core, skerry, text):
    """V19"""
    code, out, err = skerry("exec", "-u", text, "c1", "true")
    assert (code, out) == (255, "")
    assert (
        err.startswith("exec failed: cannot use user ") and err.count("\n") == 1 and len(err) < 600
    )
    assert "exec" not in core.names()


@pytest.mark.parametrize("text", ["-1", "4294967295"])
def test_bad_groups(core, skerry, text):
    code, _, err = skerry("exec", "-g", text, "c1", "true")
    assert (code, err) == (
        255,
        f"exec failed: cannot use group {text}: it is not in 0..4294967294\n",
    )


def test_no_command(core, skerry):
    """lifecycle 96"""
    assert skerry("exec", "c1") == (255, "", "exec failed: exec args cannot be empty\n")


def test_process_file_wins(core, skerry, tmp_path):
    """lifecycle 95: the words after the id are ignored."""
    file = tmp_path / "process.json"
    file.write_text('{"args": ["id"], "cwd": "/", "user": {"uid": 1, "gid": 2}, "terminal": false}')
    process = processed(core, skerry, "--process", str(file), "--tty", "c1", "ignored")
    assert process == {"args": ["id"], "cwd": "/", "user": {"uid": 1, "gid": 2}, "terminal": False}


def test_exit_codes(core, skerry):
    """lifecycle 98, P"""
    core.answers["wait"] = 137
    assert skerry("exec", "c1", "true") == (137, "", "")
    core.answers["exec"] = state_error("cannot exec in a stopped container")
    assert skerry("exec", "c1", "true") == (
        255,
        "",
        "exec failed: cannot exec in a stopped container\n",
    )
    assert skerry("exec", "nope", "true") == (
        255,
        "",
        "exec failed: container does not exist: ID 'nope' was not found\n",
    )
    code, out, err = skerry("exec")
    assert (code, err) == (1, 'skerry: "exec" requires a minimum of 1 argument(s)\n')
    assert out.startswith("Usage: skerry exec ")
