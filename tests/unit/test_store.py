"""The key store: the statements of lifecycle A, against real processes and kills."""

import os
import posix
import signal
import socket
import stat
import sys
import time

import pytest

from skerry import paths
from skerry.errors import (
    AlreadyExists,
    Error,
    KernelError,
    NoSuchKey,
    NotFound,
    UsageError,
)
from skerry.linux.fd import open_fds
from skerry.state import files
from skerry.state import store as module
from skerry.state.store import KEYS, Store

ODD_IDS = [
    "a/b/c",
    "%",
    "%%",
    "%41",
    "..",
    ".",
    "...",
    ".x",
    "boot-id",
    "lock",
    "cni",
    "@boot",
    "@tmp",
    "@id",
    "gate",
    "lost+found",
    " ",
    "a\nb",
    "ä€😀",
    "\udc80 a byte that was no UTF-8",
    "\ud83d\ude00",
    "x" * 255,
    "x" * 256,
    "ü" * 4000,
    "@" * 200,
]


@pytest.fixture
def store(tmp_path):
    return Store(f"{tmp_path}/deep/root")


def in_child(function):
    """Fork, run, and return the wait status; an exception is status 99."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function() or 0
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return pid


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def scratch(store):
    return os.listdir(f"{store.root}/{paths.SCRATCH}")


# -- lifecycle 3-7 --------------------------------------------------------------------------------


def test_it_has_the_functions_of_lifecycle_3(store):
    for name in ("create", "set", "get", "clear", "remove", "ids"):
        assert callable(getattr(store, name))


def test_create_makes_id_and_first_key_in_one_step_lifecycle_4(store):
    store.create("c", "state", {"ID": "c"})
    assert store.ids() == ["c"]
    assert store.get("c", "state") == {"ID": "c"}


def test_create_many_writes_state_and_spec_in_one_step(store):
    """decisions.md 29."""
    store.create_many("c", {"state": 1, "spec": {"ociVersion": "1.3.0"}})
    assert store.get("c", "spec") == {"ociVersion": "1.3.0"}
    assert store.get("c", "state") == 1


def test_second_create_changes_nothing_lifecycle_4(store):
    store.create("c", "state", 1)
    with pytest.raises(AlreadyExists, match="^container c already exists$"):
        store.create_many("c", {"state": 2, "other": 3})
    assert store.get("c", "state") == 1
    with pytest.raises(NoSuchKey):
        store.get("c", "other")
    assert scratch(store) == []


@pytest.mark.parametrize("prepared", [True, False], ids=["root exists", "root is missing"])
def test_of_fifty_concurrent_creates_one_succeeds_lifecycle_4(store, prepared):
    if prepared:
        store.create("other", "state", 0)
    gate_read, gate_write = os.pipe()

    def create(number):
        os.close(gate_write)
        os.read(gate_read, 1)  # end of file: all start at once
        try:
            Store(store.root).create_many("c", {"state": number, "spec": [number] * 1000})
        except AlreadyExists as error:
            return 1 if str(error) == "container c already exists" else 98
        return 0

    children = [in_child(lambda n=n: create(n)) for n in range(50)]
    os.close(gate_read)
    os.close(gate_write)
    codes = [wait(pid) for pid in children]
    assert sorted(codes) == [0] + [1] * 49
    winner = codes.index(0)
    assert store.get("c", "state") == winner
    assert store.get("c", "spec") == [winner] * 1000
    assert scratch(store) == []


def test_unknown_ids_and_absent_keys_lifecycle_5(store):
    for prepare in (lambda: None, lambda: store.create("other", "state", 1)):
        prepare()
        for use in (
            lambda: store.get("c", "state"),
            lambda: store.set("c", "state", 1),
            lambda: store.clear("c", "state"),
            lambda: store.remove("c"),
            lambda: store.directory("c"),
            lambda: store.lock("c"),
        ):
            with pytest.raises(NotFound, match=r"^ID 'c' was not found$"):
                use()
    for use in (lambda: store.get("other", "pid"), lambda: store.clear("other", "pid")):
        with pytest.raises(NoSuchKey, match=r"^state 'pid' is not present for ID 'other'$"):
            use()
    assert not issubclass(NotFound, NoSuchKey)
    assert not issubclass(NoSuchKey, NotFound)


def test_set_never_brings_an_id_into_being_lifecycle_6(store):
    with pytest.raises(NotFound):
        store.set("c", "state", 1)
    assert not os.path.exists(store.root)
    store.create("c", "state", 1)
    store.remove("c")
    with pytest.raises(NotFound):
        store.set("c", "state", 1)
    assert store.ids() == []


def test_second_remove_raises_lifecycle_6(store):
    store.create("c", "state", 1)
    store.remove("c")
    with pytest.raises(NotFound):
        store.remove("c")


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        0,
        -(2**63),
        2**63 - 1,
        2**64 - 1,
        1.5,
        "",
        "ä\n\0\u2028\U0001f600",
        [],
        {},
        {"a": [1, {"b": None}], "": "x"},
        "x" * 300_000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_come_back_equal_lifecycle_7(store, value):
    store.create("c", "state", value)
    assert store.get("c", "state") == value
    store.set("c", "pid", value)
    read = Store(store.root).get("c", "pid")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": {1, 2}}, float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused_before_a_write_lifecycle_7(store, value):
    with pytest.raises(Error):
        store.create_many("c", {"state": 1, "spec": value})
    assert not os.path.exists(store.root)
    store.create("c", "pid", 7)
    before = sorted(os.listdir(f"{store.root}/c"))
    with pytest.raises(Error):
        store.set("c", "pid", value)
    assert store.get("c", "pid") == 7
    assert sorted(os.listdir(f"{store.root}/c")) == before


# -- lifecycle 8 ----------------------------------------------------------------------------------

CALLS = ("open", "mkdir", "rename", "unlink", "rmdir", "chmod", "fchmod", "write", "listdir")


def kill_at_call(number, action):
    """Run the action in a child that SIGKILL ends at its n-th call of the kernel; the exit code."""

    def run():
        left = number

        def counted(original):
            def call(*arguments, **keywords):
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **keywords)

            return call

        for name in CALLS:
            setattr(posix, name, counted(getattr(posix, name)))
        action()

    return wait(in_child(run))


def each_kill(action, before=lambda: None):
    """Kill at the first call, the second, ... until the action gets through."""
    for number in range(1, 200):
        before()
        code = kill_at_call(number, action)
        yield number
        if code == 0:
            return
        assert code == -signal.SIGKILL
    raise AssertionError("the action never ended")


def test_kill_at_every_call_of_create_lifecycle_8(store):
    steps = 0
    for steps in each_kill(lambda: Store(store.root).create_many("c", {"state": 1, "spec": 2})):
        fresh = Store(store.root)
        if fresh.ids():
            assert fresh.ids() == ["c"]
            assert (fresh.get("c", "state"), fresh.get("c", "spec")) == (1, 2)
        else:
            fresh.create_many("c", {"state": 1, "spec": 2})  # the id is free
        fresh.remove("c")
        assert fresh.ids() == []
        assert scratch(fresh) == []  # and the debris is swept
        if steps % 2:  # every other time from nothing
            os.remove(f"{store.root}/{paths.BOOT}")
    assert steps > 10


def test_kill_at_every_call_of_set_lifecycle_8(store):
    store.create("c", "pid", "old")
    for _ in each_kill(
        lambda: Store(store.root).set("c", "pid", "new" * 1000),
        before=lambda: store.set("c", "pid", "old"),
    ):
        assert store.get("c", "pid") in ("old", "new" * 1000)
        assert store.ids() == ["c"]
    assert store.get("c", "pid") == "new" * 1000
    store.remove("c")
    assert scratch(store) == []


def test_kill_at_every_call_of_remove_lifecycle_8(store):
    def prepare():
        if not store.ids():
            store.create_many("c", {"state": 1, "spec": 2, "pid": 3})

    for _ in each_kill(lambda: Store(store.root).remove("c"), before=prepare):
        fresh = Store(store.root)
        if fresh.ids():
            assert fresh.get("c", "pid") == 3
        fresh.create("d", "state", 1)
        fresh.remove("d")
        assert scratch(fresh) == []


def test_kill_at_every_call_of_the_take_over_lifecycle_8_13(store):
    def age():
        if not store.ids():
            store.create("c", "state", 1)
            store.create("d", "state", 1)
        write(f"{store.root}/{paths.BOOT}", "of the boot before\n")

    for _ in each_kill(lambda: Store(store.root).create("new", "state", 2), before=age):
        fresh = Store(store.root)
        assert fresh.ids() in ([], ["new"])
        if not fresh.ids():
            fresh.create("new", "state", 2)
        assert fresh.ids() == ["new"]
        fresh.remove("new")


def test_kill_during_a_loop_of_writes_lifecycle_8(store):
    store.create("c", "pid", [0] * 500)
    for round_ in range(20):
        read_fd, write_fd = os.pipe()

        def loop(write_fd=write_fd):
            mine = Store(store.root)
            for number in range(1_000_000):
                os.write(write_fd, b".")
                mine.set("c", "pid", [number] * 500)

        pid = in_child(loop)
        os.close(write_fd)
        for _ in range(round_ + 1):
            os.read(read_fd, 1)
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        os.close(read_fd)
        value = store.get("c", "pid")
        assert value == [value[0]] * 500
        assert store.ids() == ["c"]


def test_readers_see_the_old_or_the_new_value_lifecycle_8(store):
    store.create("c", "pid", ["a"] * 5000)
    ready_read, ready_write = os.pipe()

    def write_on():
        mine = Store(store.root)
        for number in range(1_000_000):
            mine.set("c", "pid", ["ab"[number % 2]] * (5000 - number % 2 * 4000))
            if number == 10:
                os.write(ready_write, b".")

    pid = in_child(write_on)
    os.read(ready_read, 1)
    try:
        seen = set()
        for _ in range(500):
            value = Store(store.root).get("c", "pid")
            assert value in (["a"] * 5000, ["b"] * 1000)
            seen.add(value[0])
    finally:
        os.kill(pid, signal.SIGKILL)
        wait(pid)
    os.close(ready_read)
    os.close(ready_write)
    assert seen == {"a", "b"}  # the writer did write meanwhile


def test_listing_and_reading_against_create_and_remove(store):
    """security.md 6, `list` against `delete`: what vanishes is skipped, nothing else happens."""
    store.create("stays", "state", "x")

    def churn():
        mine = Store(store.root)
        while True:
            mine.create("c", "state", {"ID": "c"})
            mine.remove("c")

    children = [in_child(churn)]
    try:
        both = 0
        end = time.monotonic() + 20
        while both < 100 and time.monotonic() < end:
            found = store.ids()
            assert found in (["c", "stays"], ["stays"])
            if found == ["c", "stays"]:
                both += 1
                try:
                    assert store.get("c", "state") == {"ID": "c"}
                except NotFound:
                    continue
        assert both == 100
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            wait(pid)


# -- lifecycle 9-12 -------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o777, 0o022])
def test_modes_whatever_the_umask_lifecycle_9(store, umask):
    """V35, P06."""

    def make():
        os.umask(umask)
        mine = Store(store.root)
        mine.create("c", "state", 1)
        mine.set("c", "pid", 1)

    assert wait(in_child(make)) == 0
    assert mode(os.path.dirname(store.root)) == 0o700
    assert mode(store.root) == 0o700
    assert mode(f"{store.root}/@tmp") == 0o700
    assert mode(f"{store.root}/@boot") == 0o600
    assert mode(f"{store.root}/c") == 0o700
    for key in ("state", "pid", "@id"):
        assert mode(f"{store.root}/c/{key}") == 0o600
        assert os.stat(f"{store.root}/c/{key}").st_uid == os.geteuid()


def test_ids_lists_an_id_without_state_lifecycle_10(store):
    store.create("c", "state", 1)
    store.clear("c", "state")
    assert store.ids() == ["c"]
    with pytest.raises(AlreadyExists):
        store.create("c", "state", 2)


def test_ids_skips_what_it_cannot_decode_lifecycle_10(store):
    store.create("c", "state", 1)
    for name in ("%zz", "%2", "%41", "%ff", "%%", "a b", "%%" + "0" * 63, "file"):
        os.mkdir(f"{store.root}/{name}")
        if name != "file":
            write(f"{store.root}/{name}/@id", "c")
    os.rmdir(f"{store.root}/file")
    write(f"{store.root}/file", "")
    os.symlink("c", f"{store.root}/%40link")
    os.mkdir(f"{store.root}/foreign")
    assert store.ids() == ["c"]


def test_a_foreign_directory_is_no_id(store):
    """`--root /etc delete -f ssl` must find nothing there."""
    store.create("c", "state", 1)
    os.mkdir(f"{store.root}/ssl")
    write(f"{store.root}/ssl/state", "1")
    with pytest.raises(NotFound):
        store.get("ssl", "state")
    with pytest.raises(NotFound):
        store.remove("ssl")
    with pytest.raises(AlreadyExists):
        store.create("ssl", "state", 2)
    assert os.listdir(f"{store.root}/ssl") == ["state"]


@pytest.mark.parametrize("id", ODD_IDS, ids=lambda id: ascii(id)[:24])
def test_any_id_round_trips_lifecycle_11_12(store, id):
    store.create(id, "state", id.encode("utf-8", "surrogatepass").hex())
    store.create("other", "state", 0)
    assert sorted(Store(store.root).ids()) == sorted([id, "other"])
    store.set(id, "pid", 5)
    assert store.get(id, "pid") == 5
    assert store.get(id, "state") == id.encode("utf-8", "surrogatepass").hex()
    with pytest.raises(AlreadyExists):
        store.create(id, "state", 2)
    os.close(store.lock(id))
    store.remove(id)
    assert store.ids() == ["other"]
    assert sorted(os.listdir(store.root)) == ["@boot", "@tmp", "other"]


def test_all_odd_ids_live_together_lifecycle_11_12(store):
    for number, id in enumerate(ODD_IDS):
        store.create(id, "state", number)
    assert store.ids() == sorted(ODD_IDS)
    assert [store.get(id, "state") for id in ODD_IDS] == list(range(len(ODD_IDS)))
    # V59: nothing left the root
    assert sorted(os.listdir(os.path.dirname(store.root))) == ["root"]


def test_an_empty_id_is_refused_lifecycle_11(store):
    with pytest.raises(UsageError, match="^container id cannot be empty$"):
        store.create("", "state", 1)
    with pytest.raises(NotFound):
        store.get("", "state")


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "@id", "../c/state", "a\0", "ä", "x" * 129])
def test_a_key_is_one_file_name(store, key):
    store.create("c", "state", 1)
    for use in (
        lambda: store.create("d", key, 1),
        lambda: store.set("c", key, 1),
        lambda: store.get("c", key),
        lambda: store.clear("c", key),
    ):
        with pytest.raises(Error, match="^invalid key "):
            use()
    assert store.ids() == ["c"]


# -- lifecycle 13 ---------------------------------------------------------------------------------


def test_after_a_boot_every_id_counts_as_gone_lifecycle_13(store):
    store.create("c", "state", 1)
    store.create("d", "state", 1)
    os.mkdir(f"{store.root}/foreign")
    assert read(f"{store.root}/@boot") == read(module.BOOT_ID_FILE)
    write(f"{store.root}/@boot", "c0ffee00-0000-4000-8000-000000000000\n")
    fresh = Store(store.root)
    assert fresh.ids() == []
    for use in (
        lambda: fresh.get("c", "state"),
        lambda: fresh.set("c", "state", 2),
        lambda: fresh.clear("c", "state"),
        lambda: fresh.remove("c"),
        lambda: fresh.lock("c"),
    ):
        with pytest.raises(NotFound):
            use()
    fresh.create("c", "state", 2)
    assert fresh.ids() == ["c"]
    assert fresh.get("c", "state") == 2
    assert sorted(os.listdir(store.root)) == ["@boot", "@tmp", "c", "foreign"]
    assert scratch(fresh) == []


@pytest.mark.parametrize("content", ["", None], ids=["empty", "missing"])
def test_a_root_without_a_boot_id_holds_no_ids_lifecycle_13(store, content):
    store.create("c", "state", 1)
    os.remove(f"{store.root}/@boot")
    if content is not None:
        write(f"{store.root}/@boot", content)
    assert Store(store.root).ids() == []


def test_fifty_creates_after_a_boot_share_the_root_lifecycle_13(store):
    for number in range(5):
        store.create(f"old-{number}", "state", 1)
    write(f"{store.root}/@boot", "of the boot before\n")
    children = [
        in_child(lambda n=n: Store(store.root).create(f"c{n}", "state", n)) for n in range(50)
    ]
    assert [wait(pid) for pid in children] == [0] * 50
    assert store.ids() == sorted(f"c{n}" for n in range(50))


# -- lifecycle 15, and what lies on the disk ------------------------------------------------------


def test_the_table_of_keys_is_that_of_lifecycle_15():
    assert list(KEYS) == ["state", "spec", "resources", "netns", "shim", "pid", "exec-<n>", "exit"]
    assert all(len(row) == 3 for row in KEYS.values())


def test_reading_a_missing_root_makes_nothing(store):
    assert store.ids() == []
    with pytest.raises(NotFound):
        store.get("c", "state")
    assert not os.path.exists(os.path.dirname(store.root))


def test_a_root_removed_under_a_long_lived_store_is_made_again(store):
    store.create("c", "state", 1)
    os.rename(store.root, f"{store.root}.away")
    with pytest.raises(NotFound):
        store.get("c", "state")
    store.create("d", "state", 1)
    assert Store(store.root).ids() == ["d"]


CORRUPT = {
    "empty": (lambda path: write(path, ""), "the document is empty"),
    "truncated": (lambda path: write(path, '{"ID": "c'), "not JSON"),
    "rubbish": (lambda path: write(path, "\0\1\2"), "not JSON"),
    "duplicate": (lambda path: write(path, '{"a":1,"a":2}'), "twice"),
    "not UTF-8": (lambda path: os.write(os.open(path, os.O_WRONLY | os.O_TRUNC), b'"\xff"'), "UTF"),
    "directory": (lambda path: replace(path, os.mkdir), "not a regular file"),
    "link": (lambda path: replace(path, lambda p: os.symlink("@id", p)), "not a regular file"),
    "fifo": (lambda path: replace(path, os.mkfifo), "not a regular file"),
    "socket": (lambda path: replace(path, bind), "not a regular file"),
    "foreign": (lambda path: os.chown(path, 65534, 65534), "belongs to user 65534"),
    "writable": (lambda path: os.chmod(path, 0o666), "others may write"),
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_spoilt_key_is_a_clear_error_and_remove_works(store, kind):
    """security.md 8, stored state."""
    spoil, words = CORRUPT[kind]
    store.create_many("c", {"state": {"ID": "c"}, "spec": 1})
    before = open_fds()
    spoil(f"{store.root}/c/state")
    spoilt_fds = [fd for fd in open_fds() if fd not in before]
    with pytest.raises(Error, match=words) as caught:
        store.get("c", "state")
    assert "state 'state' of ID 'c'" in str(caught.value)
    assert not isinstance(caught.value, NotFound | NoSuchKey)
    assert store.get("c", "spec") == 1
    assert store.ids() == ["c"]
    store.remove("c")
    assert store.ids() == []
    assert scratch(store) == []
    for fd in spoilt_fds:
        os.close(fd)


@pytest.mark.parametrize("what", ["root", "id"])
@pytest.mark.parametrize("spoil", [lambda p: os.chown(p, 65534, -1), lambda p: os.chmod(p, 0o777)])
def test_where_others_may_write_nothing_is_believed(store, what, spoil):
    store.create("c", "state", 1)
    spoil(store.root if what == "root" else f"{store.root}/c")
    fresh = Store(store.root)
    for use in (lambda: fresh.get("c", "state"), lambda: fresh.remove("c")):
        with pytest.raises(Error, match="^cannot use ") as caught:
            use()
        assert not isinstance(caught.value, NotFound)


def test_other_users_cannot_look_in(store, tmp_path):
    """V35: as an ordinary user neither ids nor keys are to be had."""
    store.create("c", "state", 1)
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(directory, 0o755)

    def look():
        os.setresuid(65534, 65534, 65534)
        for path in (store.root, f"{store.root}/c", f"{store.root}/c/state"):
            try:
                os.stat(f"{path}/.")
            except PermissionError:
                continue
            return 1
        try:
            Store(store.root).ids()
        except KernelError:
            return 0
        return 2

    assert wait(in_child(look)) == 0


def test_remove_deletes_whatever_lies_there(store, tmp_path):
    """Sockets, links (not what they point to), directories; other files of an engine."""
    store.create("c", "state", 1)
    directory = f"{store.root}/c"
    bind(f"{directory}/gate")
    os.makedirs(f"{directory}/a/b/c")
    write(f"{directory}/a/b/file", "x")
    os.mkfifo(f"{directory}/a/fifo")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    os.symlink(outside, f"{directory}/a/link")
    os.symlink(outside, f"{directory}/link")
    store.remove("c")
    assert scratch(store) == []
    assert (outside / "kept").read_text() == "kept"


def test_remove_has_a_bottom(store):
    """Deeper than any tree of ours: the id goes at once, the rest stays out of sight."""
    store.create("c", "state", 1)
    os.makedirs(f"{store.root}/c/" + "d/" * 40)
    store.remove("c")
    assert store.ids() == []
    assert len(scratch(store)) == 1
    store.create("c", "state", 2)
    assert store.get("c", "state") == 2


# -- decisions.md 30 ------------------------------------------------------------------------------


def test_of_eight_concurrent_removes_one_succeeds(store):
    for _ in range(20):
        store.create_many("c", {"state": 1, "spec": 2})
        gate_read, gate_write = os.pipe()

        def remove(gate_read=gate_read, gate_write=gate_write):
            os.close(gate_write)
            os.read(gate_read, 1)
            try:
                Store(store.root).remove("c")
            except NotFound:
                return 1
            return 0

        children = [in_child(remove) for _ in range(8)]
        os.close(gate_read)
        os.close(gate_write)
        assert sorted(wait(pid) for pid in children) == [0] + [1] * 7
        assert store.ids() == []
    store.create("c", "state", 1)
    store.remove("c")
    assert scratch(store) == []


def test_the_lock_excludes_and_outlives_nobody(store):
    """lifecycle 117."""
    store.create("c", "state", 1)
    locked_read, locked_write = os.pipe()

    def hold():
        store.lock("c")
        os.write(locked_write, b".")
        signal.pause()

    pid = in_child(hold)
    os.read(locked_read, 1)
    events_read, events_write = os.pipe()

    def want():
        fd = store.lock("c")
        os.write(events_write, b"L")
        os.close(fd)

    waiting = in_child(want)
    os.write(events_write, b"K")
    # The lock goes with its holder, however that ends.
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert wait(waiting) == 0
    assert os.read(events_read, 8) == b"KL"
    for fd in (locked_read, locked_write, events_read, events_write):
        os.close(fd)


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and created again"])
def test_who_waited_for_the_lock_of_a_removed_id_finds_none(store, again):
    """lifecycle 117: the second of two deletes never touches a new container."""
    store.create("c", "state", 1)
    fd = store.lock("c")
    waiting_read, waiting_write = os.pipe()

    def want():
        os.close(fd)  # a fork shares the lock
        mine = Store(store.root)
        opened = mine.directory

        def directory(id):
            found = opened(id)
            os.write(waiting_write, b".")  # the directory is open, the lock is next
            return found

        Store.directory = lambda self, id: directory(id)
        try:
            mine.lock("c")
        except NotFound:
            return 0
        return 1

    pid = in_child(want)
    os.read(waiting_read, 1)
    store.remove("c")
    if again:
        store.create("c", "state", 2)
    os.close(fd)
    assert wait(pid) == 0
    os.close(waiting_read)
    os.close(waiting_write)
    assert store.ids() == (["c"] if again else [])


def test_what_is_in_work_is_not_swept(store):
    """A maker holds the lock of its directory; a dead one's is free."""
    store.create("c", "state", 1)
    living, dead = f"{store.root}/@tmp/living", f"{store.root}/@tmp/dead"
    os.mkdir(living)
    os.mkdir(dead)
    import fcntl

    fd = os.open(living, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    store.remove("c")
    assert scratch(store) == ["living"]
    os.close(fd)
    store.create("c", "state", 1)
    store.remove("c")
    assert scratch(store) == []


def test_a_create_in_work_is_not_swept(store, monkeypatch):
    """Another process removes something, and so sweeps, while the first key is being written."""
    store.create("other", "state", 1)
    write_new, mkdir, made = files.write_new, posix.mkdir, []

    def write_after_sweep(*arguments):
        if "other" in store.ids():
            store.remove("other")
        write_new(*arguments)

    def counted_mkdir(path, mode):
        mkdir(path, mode)
        made.append(path)

    monkeypatch.setattr(files, "write_new", write_after_sweep)
    monkeypatch.setattr(posix, "mkdir", counted_mkdir)
    store.create("c", "state", 1)
    monkeypatch.undo()
    assert store.ids() == ["c"]
    assert len(made) == 1  # at the first attempt


@pytest.mark.parametrize("verb", ["get", "clear"])
def test_a_key_that_goes_with_its_id_is_an_unknown_id(store, monkeypatch, verb):
    """lifecycle 5: not a missing key, though the keys of a removed id go one by one."""
    store.create("c", "state", 1)
    opened = Store.directory

    def directory_then_remove(self, id):
        monkeypatch.undo()
        fd = opened(self, id)
        self.remove(id)
        return fd

    monkeypatch.setattr(Store, "directory", directory_then_remove)
    with pytest.raises(NotFound):
        getattr(store, verb)("c", "state")


def test_create_makes_up_for_a_sweep(store, monkeypatch):
    """Between mkdir and flock a sweeper may be quicker: the next attempt succeeds."""
    store.create("other", "state", 1)
    real, swept = posix.open, []

    def open_after_sweep(path, *arguments, **keywords):
        if "/@tmp/" in path and len(swept) < 3:
            swept.append(path)
            os.rmdir(path)
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(posix, "open", open_after_sweep)
    store.create("c", "state", 1)
    monkeypatch.undo()
    assert len(swept) == 3
    assert store.get("c", "state") == 1
    assert scratch(store) == []


def test_nothing_stays_open(store):
    """P17, P01: as many descriptors after a thousand operations as before, and none inheritable."""
    store.create("c", "state", 1)
    before = open_fds()
    for number in range(100):
        store.create("d", "state", number)
        store.set("d", "pid", number)
        store.get("d", "pid")
        store.clear("d", "pid")
        for use in (
            lambda: store.get("d", "pid"),
            lambda: store.get("none", "pid"),
            lambda: store.create("d", "state", 1),
            lambda: store.set("none", "pid", 1),
        ):
            with pytest.raises(Error):
                use()
        os.close(store.lock("d"))
        os.close(store.directory("d"))
        store.ids()
        store.remove("d")
    assert open_fds() == before
    for fd in (store.lock("c"), store.directory("c")):
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_the_import_is_light():
    """style 10: nothing but what the hot list allows."""
    import subprocess

    code = "import sys; before = set(sys.modules); import skerry.state.store, skerry.state.status, "
    code += "skerry.log, skerry.paths, skerry.hooks, skerry.timeouts, skerry.optional; "
    code += "skerry.log.open_log('/dev/null').info('x'); print(*set(sys.modules) - before)"
    text = subprocess.run(
        ["/usr/bin/python3", "-S", "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    foreign = {name for name in text.split() if name.partition(".")[0] != "skerry"}
    allowed = {"errno", "fcntl", "select", "_socket", "resource", "struct", "_struct", "_json"}
    assert foreign <= allowed | {"_signal", "time", "posix"}


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def replace(path, make):
    os.remove(path)
    make(path)


def bind(path):
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        sock.close()
        os.close(directory)
