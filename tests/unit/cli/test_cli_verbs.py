"""What each verb asks of a fake core, prints, and ends with. Texts and forms are runc 1.1.5's."""

import json
import os

import pytest
from fake_core import PROCESS, STATE, state_error

from skerry.errors import (
    AlreadyExists,
    Error,
    KernelError,
    NoSuchKey,
    NotFound,
    ReleaseError,
    SpecError,
)

CREATE_DEFAULTS = {
    "owner": "",
    "isolation": "",
    "host": "",
    "network_from": "",
    "stdio": (0, 1, 2),
    "console_socket": "",
    "preserve_fds": 0,
    "pid_file": "",
    "no_pivot": False,
    "new_keyring": True,
    "pidfd_socket": "",
    "notify": False,
    "shim_log": "",
    "vm_log": "",
    "vm_console": "",
}


def without_log(options):
    return {name: value for name, value in options.items() if name != "log"}


class TestCreate:
    def test_defaults(self, core, skerry, tmp_path, monkeypatch):
        """lifecycle 34: the bundle is the current directory, made absolute."""
        monkeypatch.chdir(tmp_path)
        assert skerry("create", "c1") == (0, "", "")
        assert core.names() == ["create"]
        expected = {**CREATE_DEFAULTS, "bundle": str(tmp_path), "detach": True}
        assert without_log(core.options_of("create")) == expected

    def test_options(self, core, skerry, tmp_path, monkeypatch):
        """lifecycle 33: paths are made absolute against the caller's directory."""
        monkeypatch.chdir(tmp_path)
        words = "--owner me create --bundle ../x/./b/ --console-socket s --pid-file p/q"
        more = "--pidfd-socket /a//b --no-pivot --no-new-keyring --preserve-fds 2"
        more += " --isolation process --host h --network-from n --shim-log a --vm-log b --vm-console /c/../d c1"
        assert skerry("--root", "/r", *words.split(), *more.split())[0] == 0
        assert core.root == "/r"
        assert without_log(core.options_of("create")) == {
            "bundle": f"{tmp_path}/../x/b",
            "owner": "me",
            "isolation": "process",
            "host": "h",
            "network_from": "n",
            "stdio": (0, 1, 2),
            "console_socket": f"{tmp_path}/s",
            "detach": True,
            "preserve_fds": 2,
            "pid_file": f"{tmp_path}/p/q",
            "no_pivot": True,
            "new_keyring": False,
            "pidfd_socket": "/a/b",
            "notify": False,
            "shim_log": f"{tmp_path}/a",
            "vm_log": f"{tmp_path}/b",
            "vm_console": "/c/../d",
        }

    @pytest.mark.parametrize(
        ("id", "text"),
        [
            ("", "container id cannot be empty"),
            *(
                (id, "invalid container ID format")
                for id in (".", "..", "a/b", "a b", "a\n", "é", "x" * 256)
            ),
        ],
    )
    def test_ids(self, core, skerry, id, text):
        """lifecycle 11"""
        assert skerry("create", id) == (1, "", f"skerry create failed: {text}\n")
        assert skerry("run", id) == (1, "", f"skerry run failed: {text}\n")
        assert skerry("exec", id, "sh") == (255, "", f"exec failed: {text}\n")
        assert skerry("delete", "--force", id) == (1, "", f"{text}\n")
        assert core.calls == []

    @pytest.mark.parametrize("id", ["boot-id", ".x", "A_b+c-d.9", "x" * 255])
    def test_good_ids(self, core, skerry, id):
        assert skerry("create", id)[0] == 0

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (AlreadyExists("c1"), "container c1 already exists"),
            (
                SpecError("/process/args", "args must not be empty"),
                "/process/args: args must not be empty",
            ),
            (NotFound("pod"), "container does not exist: ID 'pod' was not found"),
            (KernelError("mount", "x", 1), "cannot mount x: EPERM (operation not permitted)"),
            (MemoryError(), "out of memory"),
        ],
    )
    def test_failures(self, core, skerry, error, text):
        """lifecycle 135, P"""
        core.answers["create"] = error
        assert skerry("create", "c1") == (1, "", f"skerry create failed: {text}\n")
        assert skerry("run", "c1") == (1, "", f"skerry run failed: {text}\n")


class TestRun:
    def test_waits_deletes_and_passes_the_code_on(self, core, skerry):
        """lifecycle 92"""
        core.answers["wait"] = 7
        assert skerry("run", "c1") == (7, "", "")
        assert core.names() == ["create", "start", "wait", "delete"]
        assert core.options_of("create")["detach"] is False
        assert core.options_of("delete") == {"force": False}

    def test_keep(self, core, skerry):
        assert skerry("run", "--keep", "c1")[0] == 0
        assert core.names() == ["create", "start", "wait"]

    def test_detach(self, core, skerry):
        assert skerry("run", "-d", "--no-subreaper", "c1")[0] == 0
        assert core.names() == ["create", "start"]
        assert core.options_of("create")["detach"] is True

    @pytest.mark.parametrize("flags", [(), ("--detach",)])
    def test_failed_start_leaves_nothing(self, core, skerry, flags):
        """lifecycle 93"""
        core.answers["start"] = Error("cannot execute x")
        assert skerry("run", *flags, "c1") == (1, "", "skerry run failed: cannot execute x\n")
        assert core.names() == ["create", "start", "delete"]
        assert core.options_of("delete") == {"force": True}

    def test_error_of_the_start_is_the_one_told(self, core, skerry):
        """lifecycle 49"""
        core.answers.update(start=Error("cannot execute x"), delete=Error("busy"))
        code, _, err = skerry("run", "c1")
        assert code == 1
        assert "level=warning" in err.splitlines()[0] and "busy" in err.splitlines()[0]
        assert err.splitlines()[1] == "skerry run failed: cannot execute x"

    def test_failed_removal_is_a_warning(self, core, skerry):
        """lifecycle 92"""
        core.answers.update(wait=3, delete=Error("busy"))
        code, out, err = skerry("run", "c1")
        assert (code, out) == (3, "")
        assert "level=warning" in err and "cannot delete container c1: busy" in err


class TestKill:
    @pytest.mark.parametrize(
        ("words", "signal", "all"),
        [
            (["c1"], 15, False),
            (["c1", "9"], 9, False),
            (["c1", "SIGHUP"], 1, False),
            (["--all", "c1", "kill"], 9, True),
            (["c1", "KILL", "-a"], 9, True),
        ],
    )
    def test_kill(self, core, skerry, words, signal, all):
        """lifecycle 106, 107"""
        assert skerry("kill", *words) == (0, "", "")
        assert core.calls[-1] == ("kill", (signal,), {"all": all})

    def test_unknown_signal(self, core, skerry):
        """lifecycle 107"""
        assert skerry("kill", "c1", "SIGNOPE") == (1, "", 'unknown signal "SIGNOPE"\n')
        assert "kill" not in core.names()

    def test_stopped(self, core, skerry):
        """lifecycle 108"""
        core.answers["kill"] = state_error("container not running")
        assert skerry("kill", "c1") == (1, "", "container not running\n")


class TestDelete:
    def test_delete(self, core, skerry):
        assert skerry("delete", "c1") == (0, "", "")
        assert skerry("delete", "c1", "-f") == (0, "", "")
        assert [options for _, _, options in core.calls] == [{"force": False}, {"force": True}]

    def test_unknown_id(self, core, skerry):
        """lifecycle 114"""
        expected = (1, "", "container does not exist: ID 'nope' was not found\n")
        assert skerry("delete", "nope") == expected
        assert skerry("delete", "--force", "nope") == (0, "", "")

    def test_id_without_state(self, core, skerry):
        """lifecycle 114: the core has removed the id; the exit code says that there was no container."""
        core.answers["delete by id"] = NoSuchKey("c1", "state")
        assert skerry("delete", "c1") == (1, "", "state 'state' is not present for ID 'c1'\n")
        assert [options for _, _, options in core.calls] == [{"force": False}]

    def test_stopped_with_a_failed_release(self, core, skerry):
        """lifecycle 119"""
        core.answers["delete by id"] = ReleaseError(["busy", "gone"])
        text = "failed to release one or more container resources: busy; gone\n"
        assert skerry("delete", "c1") == (1, "", text)


class TestState:
    def test_state(self, core, skerry):
        """lifecycle 101: two blanks, the order of the core."""
        code, out, _ = skerry("state", "c1")
        assert code == 0
        assert out == json.dumps(STATE, indent=2) + "\n"

    def test_missing(self, core, skerry):
        """lifecycle 135"""
        assert skerry("state", "nope") == (
            1,
            "",
            "container does not exist: ID 'nope' was not found\n",
        )


class TestList:
    def test_empty(self, core, skerry):
        """lifecycle 103; `runc list` without containers prints exactly this."""
        core.known = []
        assert (
            skerry("list")[1]
            == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        )
        assert skerry("list", "-f", "json")[1] == "null\n"
        assert skerry("list", "-q")[1] == ""

    def test_table(self, core, skerry):
        """The line that runc prints for the same state."""
        core.answers["state"] = {
            **STATE,
            "pid": 7407,
            "status": "created",
            "bundle": "/tmp/cli/b",
            "created": "2026-11-25T12:31:09.845822137Z",
        }
        assert skerry("list")[1].splitlines() == [
            "ID          PID         STATUS      BUNDLE       CREATED                          "
            "OWNER",
            "c1          7407        created     /tmp/cli/b   2026-11-25T12:31:09.845822137Z   "
            "root",
        ]

    def test_json_is_one_line(self, core, skerry):
        core.known = ["b", "a"]
        code, out, _ = skerry("list", "--format", "json")
        assert code == 0 and out.count("\n") == 1
        assert [state["id"] for state in json.loads(out)] == ["a", "b"]

    def test_quiet_wins(self, core, skerry):
        core.known = ["b", "a"]
        assert skerry("list", "-q", "-f", "nonsense") == (0, "a\nb\n", "")

    def test_unknown_format(self, core, skerry):
        assert skerry("list", "-f", "xml") == (1, "", "invalid format option\n")

    def test_bad_entries(self, core, skerry):
        """lifecycle 104"""
        core.answers["load"] = NoSuchKey("c1", "state")
        assert skerry("list", "-f", "json") == (
            0,
            "null\n",
            "reading state for c1: state 'state' is not present for ID 'c1'\n",
        )
        core.answers["load"] = None
        core.answers["state"] = Error("the guest is silent")
        code, out, err = skerry("list")
        assert (code, err) == (0, "reading status for c1: the guest is silent\n")
        assert out.splitlines()[1].split() == [
            "c1",
            "0",
            "/b",
            "2026-01-02T03:04:05.000000006Z",
            "root",
        ]
        core.answers["state"] = NotFound("c1")
        assert skerry("list", "-f", "json") == (0, "null\n", "")


class TestPs:
    def test_json(self, core, skerry):
        """lifecycle 105"""
        core.answers["processes"] = [7, 9]
        assert skerry("ps", "--format", "json", "c1") == (0, "[7,9]\n", "")
        core.answers["processes"] = []
        assert skerry("ps", "-f", "json", "c1") == (0, "null\n", "")

    def test_table(self, core, skerry):
        core.answers["processes"] = [os.getpid()]
        code, out, _ = skerry("ps", "c1", "-A", "-o", "pid,ppid")
        assert code == 0
        assert [line.split() for line in out.splitlines()] == [
            ["PID", "PPID"],
            [str(os.getpid()), str(os.getppid())],
        ]
        assert skerry("ps", "c1")[1].split()[:3] == ["UID", "PID", "PPID"]

    def test_table_of_a_vm(self, core, skerry):
        """lifecycle 105: the guest's own pids, in the form of ps -ef; its ps takes no options."""
        row = {"uid": "0", "pid": "77", "ppid": "1", "cpu": "0", "stime": "10:00", "tty": "?", "time": "00:00:00", "cmd": "sleep 9"}
        core.answers["process_table"] = [row]
        code, out, _ = skerry("ps", "c1", "-ef")
        assert code == 0 and [line.split()[1] for line in out.splitlines()] == ["PID", "77"]
        assert out.endswith(" sleep 9\n")
        code, out, err = skerry("ps", "c1", "-o", "pid")
        assert code == 1 and "the processes of a VM are the guest's" in err

    def test_without_pid_column(self, core, skerry):
        core.answers["processes"] = [1]
        assert skerry("ps", "c1", "-o", "comm") == (1, "", "couldn't find PID field in ps output\n")

    def test_bad_options(self, core, skerry):
        core.answers["processes"] = [1]
        code, out, err = skerry("ps", "c1", "--nonsense")
        assert (code, out) == (1, "")
        assert err.startswith("cannot run ps: exit status 1: ") and err.count("\n") == 1
        assert skerry("ps", "-f", "xml", "c1") == (1, "", "invalid format option\n")

    def test_path_of_the_caller_does_not_count(self, core, skerry, tmp_path, monkeypatch):
        """V27"""
        trap = tmp_path / "ps"
        trap.write_text("#!/bin/sh\necho PID; echo 1\n")
        trap.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        core.answers["processes"] = [os.getpid()]
        assert "UID" in skerry("ps", "c1")[1]


@pytest.mark.parametrize("verb", ["start", "pause", "resume"])
def test_plain_verbs(core, skerry, verb):
    assert skerry(verb, "c1") == (0, "", "")
    assert core.names() == ["load", verb]
    core.answers[verb] = state_error("container not running")
    assert skerry(verb, "c1") == (1, "", "container not running\n")


class TestResize:
    def test_resize(self, core, skerry):
        """lifecycle 111"""
        assert skerry("resize-tty", "c1", "80", "24") == (0, "", "")
        assert skerry("resize-tty", "--pid", "77", "c1", "65535", "1") == (0, "", "")
        calls = [call for call in core.calls if call[0] == "resize"]
        assert calls == [("resize", (80, 24), {"pid": None}), ("resize", (65535, 1), {"pid": 77})]

    @pytest.mark.parametrize(
        "words",
        [
            ["0", "1"],
            ["1", "65536"],
            ["-1", "1"],
            ["x", "1"],
            ["1.5", "1"],
            ["１", "1"],
            ["--pid=x", "1", "1"],
        ],
    )
    def test_bad_sizes(self, core, skerry, words):
        """lifecycle 111"""
        code, out, err = skerry("resize-tty", "c1", *words)
        assert (code, err) == (1, "invalid command usage\n")
        assert out.startswith("Usage: skerry resize-tty ")
        assert "resize" not in core.names()


class TestEvents:
    def test_events(self, core, skerry):
        line = '{"type":"stats","id":"c1","data":{"pids":{"current":1}}}\n'
        assert skerry("events", "--stats", "c1") == (0, line, "")
        assert core.options_of("watch") == {"interval_s": 5.0, "stats_only": True}

    def test_stopped(self, core, skerry):
        """lifecycle P"""
        core.answers["watch"] = state_error("container with id c1 is not running")
        assert skerry("events", "c1") == (1, "", "container with id c1 is not running\n")

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("5s", 5), ("1m30s", 90), ("300ms", 0.3), ("1.5h", 5400), ("10us", 1e-5), ("2h45m", 9900)],
    )
    def test_interval(self, core, skerry, text, seconds):
        assert skerry("events", "--interval", text, "c1")[0] == 0
        assert core.options_of("watch")["interval_s"] == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["0", "-1s", "0s"])
    def test_interval_not_above_zero(self, core, skerry, text):
        assert skerry("events", "--interval", text, "c1") == (
            1,
            "",
            "duration interval must be greater than 0\n",
        )

    @pytest.mark.parametrize("text", ["foo", "5", "s", "5x", "", "1.2.3s", "5s5", "１s"])
    def test_interval_malformed(self, core, skerry, text):
        code, out, err = skerry("events", "--interval", text, "c1")
        assert (code, err) == (1, f'invalid value "{text}" for flag -interval: parse error\n')
        assert out.startswith("Usage: ")


class TestSpec:
    def test_writes_and_never_overwrites(self, skerry, tmp_path):
        """lifecycle P"""
        assert skerry("spec", "--bundle", str(tmp_path)) == (0, "", "")
        config = tmp_path / "config.json"
        assert json.loads(config.read_bytes())["process"]["args"] == ["sh"]
        config.write_text("mine")
        assert skerry("spec", "-b", str(tmp_path)) == (
            1,
            "",
            "File config.json exists. Remove it first\n",
        )
        assert config.read_text() == "mine"

    def test_missing_directory(self, skerry):
        code, out, err = skerry("spec", "-b", "/nonexistent")
        assert (code, out) == (1, "")
        assert "no such file or directory" in err

    def test_features(self, skerry):
        code, out, _ = skerry("features")
        assert code == 0 and "ociVersionMax" in json.loads(out)


def test_exec_base_is_left_alone(core, skerry):
    before = json.dumps(PROCESS)
    assert skerry("exec", "-t", "-e", "A=1", "-c", "CAP_CHOWN", "-u", "9:9", "c1", "true")[0] == 0
    assert json.dumps(PROCESS) == before
