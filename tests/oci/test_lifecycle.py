"""create, start, kill, delete: statuses, refusals, and what each verb leaves."""

import os
import signal

import pytest
from support import host
from support.box import Box
from support.spec import drop_namespace, fresh_spec, shell


def test_create_does_not_run_the_program(box: Box) -> None:
    """lifecycle 46, 47."""
    container = box.create(shell("echo ran"))
    assert container.status == "created"
    assert container.stream.text == ""
    container.start()
    assert container.stream.rest() == "ran\n"
    assert container.wait() == 0
    assert container.status == "stopped"
    container.delete().ok()


def test_verbs_are_silent_on_success(box: Box) -> None:
    """lifecycle P, last line."""
    spec = fresh_spec("probe", "park")
    id = box.new_id()
    where = box.bundle(spec)
    for args in (("create", "--bundle", where, "--pid-file", where / "pid", id), ("start", id), ("kill", id, "KILL")):
        result = box.runtime.call(*args).ok()
        text = result.out + result.err
        assert text.replace("ready\n", "") == "", result
    pid = int((where / "pid").read_text())
    host.wait_exit(pid)
    os.waitpid(pid, 0)
    result = box.runtime.call("delete", id).ok()
    assert result.out + result.err == ""


def test_init_becomes_the_program_without_a_fork(box: Box) -> None:
    """lifecycle 64: one pid from create to the end, and it is a child of the session's reaper."""
    container = box.create(fresh_spec("probe", "park"))
    before = container.state()["pid"]
    container.start()
    container.stream.until("ready")
    assert before == container.pid == container.state()["pid"]
    assert host.status_of(container.pid)["Name"] == "probe"
    assert host.status_of(container.pid)["PPid"] == str(os.getpid())


def test_second_create_of_an_id_is_refused(box: Box) -> None:
    """lifecycle 4."""
    container = box.parked(fresh_spec())
    result = box.try_create(fresh_spec(), id=container.id).failed()
    assert "exist" in result.message, result
    assert container.status == "running"


@pytest.mark.skerry_only("lifecycle 4")
def test_second_create_text(box: Box) -> None:
    container = box.create(fresh_spec())
    box.try_create(fresh_spec(), id=container.id).failed().says(f"container {container.id} already exists")


def test_start_of_a_running_container(box: Box) -> None:
    """lifecycle 90."""
    container = box.parked(fresh_spec())
    container.verb("start").failed()
    assert container.status == "running"


def test_start_of_a_stopped_container(box: Box) -> None:
    """lifecycle 90."""
    container = box.start(fresh_spec("true"))
    container.wait()
    container.verb("start").failed()


@pytest.mark.parametrize(
    ("stopped", "text"),
    [(False, "cannot start an already running container"), (True, "cannot start a container that has stopped")],
    ids=["running", "stopped"],
)
def test_start_refusal_text(box: Box, stopped: bool, text: str) -> None:
    """lifecycle 90."""
    container = box.parked(fresh_spec())
    if stopped:
        container.end()
    container.verb("start").failed().says(text)


def test_of_two_concurrent_starts_one_wins(box: Box) -> None:
    """lifecycle 90."""
    container = box.create(fresh_spec("probe", "park"))
    both = [box.runtime.spawn("start", container.id) for _ in range(2)]
    codes = sorted(running.finish().code for running in both)
    assert codes == [0, 1]
    container.stream.until("ready")
    assert container.stream.text == "ready\n"


def test_death_before_start_is_a_stop(box: Box) -> None:
    """lifecycle 65."""
    container = box.create(fresh_spec("true"))
    container.end()
    assert container.status == "stopped"
    container.verb("start").failed()
    container.delete().ok()


def test_delete_of_a_created_container(box: Box) -> None:
    """lifecycle 112: created means killed and removed, without --force."""
    container = box.create(fresh_spec())
    container.delete().ok()
    container.verb("state").failed()
    assert box.leftovers() == []


def test_delete_of_a_running_container_is_refused(box: Box) -> None:
    """lifecycle 112."""
    container = box.parked(fresh_spec())
    container.delete().failed()
    assert container.status == "running"


def test_delete_refusal_text(box: Box) -> None:
    """lifecycle 112."""
    container = box.parked(fresh_spec())
    container.delete().failed().says(f"cannot delete container {container.id} that is not stopped: running")


@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped"])
def test_force_delete(box: Box, status: str) -> None:
    """lifecycle 112."""
    container = box.create(fresh_spec("probe", "park"))
    if status != "created":
        container.start()
        container.stream.until("ready")
    if status == "paused":
        container.verb("pause").ok()
    if status == "stopped":
        container.end()
    container.delete("--force").ok()
    container.verb("state").failed()
    assert box.leftovers() == []


def test_force_delete_kills_every_process(box: Box) -> None:
    """lifecycle 112: also without a pid namespace, where init's end kills nobody."""
    spec = shell("sleep 1000 & sleep 1000 & echo up; wait")
    drop_namespace(spec, "pid")
    container = box.start(spec)
    container.stream.until("up")
    container.delete("--force").ok()


def test_delete_of_an_unknown_id(box: Box) -> None:
    """lifecycle 114, 157."""
    box.runtime.call("delete", "nobody").failed().says("does not exist")
    result = box.runtime.call("delete", "--force", "nobody").ok()
    assert result.out + result.err == ""


@pytest.mark.parametrize("verb", ["start", "state", "kill", "pause", "resume", "exec", "ps"])
def test_unknown_id(box: Box, verb: str) -> None:
    """lifecycle 135, P: 1, and 255 for exec."""
    words = {"kill": ["KILL"], "exec": ["true"]}.get(verb, [])
    result = box.runtime.call(verb, "nobody", *words)
    assert result.code == (255 if verb == "exec" else 1), result
    assert "does not exist" in result.err, result
    assert len(result.err.splitlines()) == 1, result


@pytest.mark.parametrize(
    "id",
    ["", ".", "..", "a/b", "../x", " ", "a b", "a\nb", "ä", "x" * 256, "/etc", "a:b", "a\\b", "a%2fb"],
    ids=repr,
)
def test_invalid_id(box: Box, id: str) -> None:
    """lifecycle 11, V59: refused before anything is made."""
    spec = fresh_spec()
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    (root := box.dir / "root").mkdir()
    result = box.runtime.call("create", "--bundle", box.bundle(spec), id, root=root)
    assert result.code == 1, result
    assert [name for name in os.listdir(root) if not name.startswith("@")] == []


@pytest.mark.parametrize("id", ["", "a/b", ".."])
def test_invalid_id_text(box: Box, id: str) -> None:
    """lifecycle 11."""
    text = "invalid container ID format" if id else "container id cannot be empty"
    box.runtime.call("create", "--bundle", box.bundle(fresh_spec()), id).failed().says(text)


@pytest.mark.parametrize("form", ["A-Z.0_9+x-", "boot-id", "lock", "cni", ".x", "-x", "list", "@x"])
def test_odd_but_valid_ids(box: Box, form: str) -> None:
    """lifecycle 11, 12: the runtime's own names never collide; `@` and a leading dash are not ids."""
    root = box.dir / "root"
    spec = shell("echo up")
    spec["linux"]["cgroupsPath"] = box.cgroup_path()
    words = ("run", "--bundle", box.bundle(spec), "--", form)
    result = box.runtime.call(*words, root=root)
    if form == "@x":
        result.failed()
        return
    assert result.ok().out == "up\n"
    assert not [name for name in os.listdir(root) if form in name]


def test_long_id(box: Box) -> None:
    """lifecycle 11: 200 bytes work; the cgroup and socket names must cope."""
    id = box.new_id()
    box.ids[-1] = id = id + "x" * (200 - len(id))
    assert box.run(shell("echo up"), id=id).ok().out == "up\n"


def test_failed_create_leaves_the_id_free(box: Box) -> None:
    """lifecycle 53, 54."""
    id = box.new_id()
    box.refuses(fresh_spec("no-such-program"), id=id)
    box.create(fresh_spec(), id=id).delete().ok()


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
        ("/etc", "permission denied"),
    ],
)
def test_create_reports_a_program_that_cannot_run(box: Box, program: str, text: str) -> None:
    """lifecycle 67: docker and podman make exit codes 127 and 126 from these words."""
    result = box.refuses(fresh_spec(program))
    found = result.err.lower()
    assert text.lower() in found or (text == "permission denied" and "is a directory" in found), result


def test_bad_interpreter_is_reported_by_start(box: Box) -> None:
    """lifecycle 66: what only execve can know comes back from start, and the container is stopped."""
    where = box.bundle(fresh_spec("/bin/script"))
    script = where / "rootfs/bin/script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    container = box.create(None, bundle=where)
    container.verb("start").failed().says("no such file or directory")
    container.wait()
    assert container.status == "stopped"
    container.delete().ok()


def test_pid_file(box: Box) -> None:
    """lifecycle 63: decimal, no newline; an older file is replaced."""
    where = box.bundle(fresh_spec())
    (where / "pid").write_text("leftover of another time")
    container = box.create(None, bundle=where)
    text = (where / "pid").read_text()
    assert text == str(container.state()["pid"])
    assert [name for name in os.listdir(where) if "pid" in name] == ["pid"]


def test_pid_file_is_relative_to_the_caller(box: Box) -> None:
    """lifecycle 33."""
    where = box.bundle(fresh_spec())
    id = box.new_id()
    box.runtime.call("create", "--bundle", where, "--pid-file", "here.pid", id, cwd=box.dir).ok()
    assert (box.dir / "here.pid").read_text().isdigit()


@pytest.mark.parametrize("place", ["missing/pid", "directory"])
def test_pid_file_that_cannot_be_written_undoes_create(box: Box, place: str) -> None:
    """lifecycle 52, security 8."""
    (box.dir / "directory").mkdir()
    id = box.new_id()
    box.runtime.call("create", "--bundle", box.bundle(fresh_spec()), "--pid-file", box.dir / place, id).failed()
    assert box.leftovers() == []
    box.create(fresh_spec(), id=id)


def test_bundle_is_the_current_directory(box: Box) -> None:
    """lifecycle 34."""
    where = box.bundle(shell("echo up"))
    assert box.runtime.call("run", box.new_id(), cwd=where).ok().out == "up\n"
    container = box.create(None, bundle=where, cwd="/")
    assert container.state()["bundle"] == str(where)


def test_missing_config(box: Box) -> None:
    """lifecycle 34."""
    box.runtime.call("create", "--bundle", box.dir, box.new_id()).failed().says("config.json")
    box.runtime.call("create", "--bundle", box.dir / "none", box.new_id()).failed()


@pytest.mark.skerry_only("lifecycle 34")
def test_missing_config_text(box: Box) -> None:
    result = box.runtime.call("create", "--bundle", box.dir, box.new_id()).failed()
    result.says("JSON specification file config.json not found")


def test_edits_of_the_config_after_create_have_no_effect(box: Box) -> None:
    """lifecycle 41."""
    container = box.create(shell("echo first; exec probe park"))
    (container.bundle / "config.json").write_text("{")
    container.start()
    container.stream.until("ready")
    assert container.stream.text == "first\nready\n"
    assert container.exec("echo", "more").ok().out == "more\n"
    container.delete("--force").ok()


def test_rootfs_and_bundle_may_be_gone_at_delete(box: Box) -> None:
    container = box.start(fresh_spec("true"))
    container.wait()
    (container.bundle / "config.json").unlink()
    container.bundle.rename(box.dir / "moved")
    container.delete().ok()


def test_kill_after_init_died_unseen(box: Box) -> None:
    """decisions 7: a zombie is not running."""
    container = box.start(fresh_spec("true"))
    host.wait_exit(container.pid)
    assert container.status == "stopped"
    assert container.wait() == 0


def test_two_roots_know_nothing_of_each_other(box: Box) -> None:
    """lifecycle 1, 2."""
    container = box.parked(fresh_spec())
    other = box.dir / "other-root"
    box.runtime.call("state", container.id, root=other).failed()
    assert box.runtime.call("list", "-q", root=other).ok().out.strip() == ""


def test_relative_root(box: Box) -> None:
    """lifecycle 2: a value with a slash is a path, made absolute."""
    where = box.bundle(fresh_spec())
    id = box.new_id()
    box.runtime.call("create", "--bundle", where, id, root="./rel", cwd=box.dir).ok()
    assert os.listdir(box.dir / "rel")
    box.runtime.call("delete", id, root=box.dir / "rel").ok()


@pytest.mark.skerry_only("lifecycle 2")
def test_root_slash_is_refused(box: Box) -> None:
    result = box.runtime.call("list", root="/").failed()
    result.says("Option --root argument should not be set to /")


@pytest.mark.skerry_only("lifecycle 9, V35")
def test_state_is_for_its_owner_only(box: Box) -> None:
    """Whatever umask the caller has."""
    for umask in (0, 0o777):
        container = box.create(fresh_spec(), umask=umask)
        for directory, _, files in os.walk(box.runtime.root):
            assert os.stat(directory).st_mode & 0o077 == 0
            for name in files:
                assert os.lstat(os.path.join(directory, name)).st_mode & 0o077 == 0
        container.delete().ok()


def test_created_container_is_stopped_by_term(box: Box) -> None:
    """decisions 5."""
    container = box.create(fresh_spec("true"))
    container.kill("TERM")
    assert container.wait(2) != 0
    assert container.status == "stopped"


def test_init_exit_code_reaches_the_monitor(box: Box) -> None:
    container = box.start(shell("exit 42"))
    assert container.wait() == 42
    container = box.start(shell("kill -9 $$"))
    drop = container.wait()
    assert drop in (0, -signal.SIGKILL)  # pid 1 cannot kill itself: the shell ends
