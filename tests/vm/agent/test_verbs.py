"""What the host can ask the agent for (docs/vm.md "The link")."""

import json

import pytest
from support.agent_client import Refused

SLEEP = ("sleep", "1000")


def test_life_of_a_container(place):
    """Lifecycle 99, 141: each status, and an exit with its code."""
    id = place.name()
    pid = place.client.create(id, place.spec(id, "sh", "-c", "exit 7"), storages=place.storages())
    assert place.client.request("status", container=id) == {"status": "created"}
    assert place.client.request("start", container=id) == {"pid": pid}
    end = place.client.exit_of(id)
    assert (end["code"], end["signal"], end["reason"]) == (7, 0, "exit")
    assert place.client.request("status", container=id) == {"status": "stopped"}
    assert place.client.request("delete", container=id, force=False) is None
    with pytest.raises(Refused) as refused:
        place.client.request("status", container=id)
    assert refused.value.kind == "NotFound"


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes_are_exact(place, code):
    id = place.run(*SLEEP)
    end, _ = place.execute(id, "sh", "-c", f"exit {code}")
    assert (end["code"], end["signal"]) == (code, 0)


@pytest.mark.parametrize("number", [1, 9, 15])
def test_death_by_signal(place, number):
    """Lifecycle 109: the very signal arrives."""
    id = place.run(*SLEEP)
    end, _ = place.execute(id, "sh", "-c", f"kill -{number} $$")
    assert (end["code"], end["signal"], end["reason"]) == (128 + number, number, "signal")


def test_signal_to_an_exec(place):
    id = place.run(*SLEEP)
    place.client.exec(id, "e", place.process_spec(*SLEEP))
    place.client.request("signal", container=id, process="e", signal=15, all=False)
    assert place.client.exit_of(id, "e")["signal"] == 15
    assert place.client.request("status", container=id) == {"status": "running"}


def test_kill_of_a_container(place):
    id = place.run(*SLEEP)
    place.client.request("signal", container=id, process="init", signal=9, all=False)
    assert place.client.exit_of(id)["signal"] == 9
    with pytest.raises(Refused, match="container not running") as refused:
        place.client.request("signal", container=id, process="init", signal=15, all=False)
    assert refused.value.kind == "StateError"


def test_kill_of_a_paused_one(place):
    """Lifecycle 108: KILL thaws."""
    id = place.run(*SLEEP)
    place.client.request("pause", container=id)
    place.client.request("signal", container=id, process="init", signal=9, all=False)
    assert place.client.exit_of(id)["signal"] == 9


def test_pause_and_resume(place):
    """Lifecycle 94, 110."""
    id = place.run(*SLEEP)
    place.client.request("pause", container=id)
    assert place.client.request("status", container=id) == {"status": "paused"}
    with pytest.raises(Refused, match="cannot exec in a paused container"):
        place.execute(id, "true")
    place.client.request("resume", container=id)
    with pytest.raises(Refused, match="container not paused"):
        place.client.request("resume", container=id)
    assert place.execute(id, "true")[0]["code"] == 0


def test_second_start(place):
    """Lifecycle 90; the class and its fields travel."""
    id = place.run(*SLEEP)
    with pytest.raises(Refused, match="cannot start an already running container") as refused:
        place.client.request("start", container=id)
    assert refused.value.document["kind"] == "StateError"
    assert refused.value.document["status"] == "running"


def test_program_that_is_not_there(place):
    """Lifecycle 53, 67: told by create; the id is free at once."""
    id = place.name()
    with pytest.raises(Refused, match="executable file not found in \\$PATH"):
        place.create("no-such-program", id=id)
    with pytest.raises(Refused) as refused:
        place.client.request("status", container=id)
    assert refused.value.kind == "NotFound"
    place.run(*SLEEP, id=id)


def test_bad_spec_names_its_pointer(place):
    id = place.name()
    spec = place.spec(id, "true")
    spec["process"]["user"]["uid"] = -1
    with pytest.raises(Refused) as refused:
        place.create(id=id, spec=spec)
    assert refused.value.kind == "SpecError"
    assert refused.value.document["pointer"] == "/process/user/uid"


def test_exec_failure_leaves_nothing(place):
    id = place.run(*SLEEP)
    before = place.client.request("processes", container=id)["pids"]
    with pytest.raises(Refused, match="no such file or directory"):
        place.execute(id, "/no/such/program")
    assert place.client.request("processes", container=id)["pids"] == before


def test_id_twice(place):
    id = place.run(*SLEEP)
    with pytest.raises(Refused, match="already"):
        place.create(*SLEEP, id=id)
    assert place.client.request("status", container=id) == {"status": "running"}


def test_delete_of_a_running_one(place):
    """Lifecycle 112; the exit is told before the answer."""
    id = place.run(*SLEEP)
    with pytest.raises(Refused, match="cannot delete container"):
        place.client.request("delete", container=id, force=False)
    place.client.request("delete", container=id, force=True)
    assert any(e["event"] == "exit" and e["container"] == id for e in place.client.events)


def test_delete_of_an_unknown_one(place):
    """The host asks for it after a create that failed half-way: there may be nothing."""
    assert place.client.request("delete", container="unknown", force=True) is None


def test_process_list(place):
    """Lifecycle 105."""
    id = place.run("sleep", "4242")
    found = place.client.request("processes", container=id)
    assert len(found["pids"]) == 1
    (row,) = found["table"]
    assert (row["pid"], row["cmd"], row["uid"]) == (found["pids"][0], "sleep 4242", 0)
    assert set(row) == {"uid", "pid", "ppid", "cpu", "stime", "tty", "time", "cmd"}


def test_figures(place):
    """Lifecycle 140: the container's and the VM's."""
    id = place.run(*SLEEP)
    found = place.client.request("stats", container=id)
    assert found["vm"]["memory"]["total"] > found["vm"]["memory"]["available"] > 0
    assert found["container"]["pids"]["current"] == 1


def test_update_takes_effect(place):
    """Lifecycle 140."""
    id = place.run(*SLEEP)
    place.client.request("update", container=id, resources={"pids": {"limit": 3}}, pointer="")
    end, said = place.execute(id, "sh", "-c", "sleep 1 & sleep 1 & sleep 1 & wait")
    assert end["code"] != 0
    assert b"fork" in said
    assert place.client.request("stats", container=id)["container"]["pids"]["limit"] == 3


def test_limits_of_one_are_not_another_s(place):
    first, second = place.run(*SLEEP), place.run(*SLEEP)
    place.client.request("update", container=first, resources={"pids": {"limit": 1}}, pointer="")
    assert place.execute(second, "sh", "-c", "sleep 0 & sleep 0 & wait")[0]["code"] == 0


def test_out_of_memory(place):
    """Lifecycle 141: event `oom` before the exit, whose reason it is."""
    id = place.name()
    spec = place.spec(id, "sh", "-c", "tail /dev/zero")
    spec["linux"]["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    spec["process"]["oomScoreAdj"] = 0
    place.run(id=id, spec=spec)
    end = place.client.exit_of(id)
    assert (end["signal"], end["reason"]) == (9, "oom") or end["code"] == 137, end
    kinds = [e["event"] for e in place.client.events if e.get("container") == id]
    assert kinds.index("oom") < kinds.index("exit")


def test_stop_asks_what_is_left(place):
    """Lifecycle 74: init has ended, another process of its container has not."""
    owner = place.run(*SLEEP)
    id = place.name()
    spec = place.spec(id, "sh", "-c", "sleep 1000 & exit 0")
    pid = place.client.request("processes", container=owner)["pids"][0]
    shared = {"type": "pid", "path": f"/proc/{pid}/ns/pid"}
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"] + [shared]
    place.run(id=id, spec=spec)
    place.client.exit_of(id)
    place.client.request("stop", container=id)
    place.client.request("delete", container=id, force=False)


def test_namespaces_of_a_pod(place):
    """ipc, uts and pid of another container, by its pid in the guest."""
    first = place.run(*SLEEP)
    pid = place.client.request("processes", container=first)["pids"][0]
    id = place.name()
    spec = place.spec(id, *SLEEP)
    del spec["hostname"]
    spec["linux"]["namespaces"] = [
        {**n, "path": f"/proc/{pid}/ns/{n['type']}"} if n["type"] in ("ipc", "uts", "pid") else n
        for n in spec["linux"]["namespaces"]
    ]
    place.run(id=id, spec=spec)
    read = ("sh", "-c", "for kind in ipc uts pid mnt; do readlink /proc/self/ns/$kind; done")
    of_first, of_second = (place.execute(found, *read)[1].split() for found in (first, id))
    assert of_first[:3] == of_second[:3]
    assert of_first[3] != of_second[3]


def test_annotations_reach_hooks_but_do_not_place(place):
    """A startContainer hook reads the state; a sandbox of the host is none that the guest would look for."""
    id = place.name()
    spec = place.spec(id, "cat", "/tmp/state")
    spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    spec["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state"]}]}
    streams = place.client.open_streams("stdout")
    annotations = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": "of-the-host",
        "run.skerry.isolation": "vm",
        "colour": "green",
    }
    place.run(id=id, spec=spec, streams=streams, annotations=annotations)
    assert place.client.exit_of(id)["code"] == 0
    state = json.loads(place.client.output(streams["stdout"]))
    assert state["annotations"] == {"colour": "green"}
    assert (state["id"], state["status"]) == (id, "created")


def test_hook_that_hangs_blocks_nobody(place):
    """Lifecycle 82; the signal that ends it does not wait for its turn."""
    id = place.name()
    spec = place.spec(id, "true")
    spec["hooks"] = {"startContainer": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}
    place.create(id=id, spec=spec)
    hanging = place.client.ask("start", container=id)
    other = place.run("sh", "-c", "exit 5")
    assert place.client.exit_of(other)["code"] == 5
    assert hanging not in place.client.answers
    place.client.request("signal", container=id, process="init", signal=9, all=False)
    place.client.answer(hanging)  # as for any start: what ends after it is told by its exit
    assert place.client.exit_of(id)["signal"] == 9


def test_warnings_of_the_core_reach_the_host(place):
    """What `skerry create` would write into its log."""
    id = place.name()
    spec = place.spec(id, *SLEEP)
    spec["process"]["capabilities"]["bounding"].append("CAP_NO_SUCH_THING")
    place.create(id=id, spec=spec)
    said = [e for e in place.client.events if e["event"] == "log"]
    assert any("CAP_NO_SUCH_THING" in e["message"] and e["level"] == "warning" for e in said), said


def test_filter_of_system_calls(place):
    """libseccomp compiles in the guest."""
    id = place.name()
    spec = place.spec(id, *SLEEP)
    spec["mounts"].append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"})
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123}],
    }
    place.run(id=id, spec=spec)
    end, said = place.execute(id, "sh", "-c", "mkdir /mnt/x; grep Seccomp: /proc/self/status")
    assert b"No medium found" in said, said
    assert b"Seccomp:\t2\n" in said
    assert end["code"] == 0


def test_requests_that_make_no_sense(place):
    """Each is refused, and the link lives on."""
    for fields in (
        {"op": "no-such-op"},
        {"op": "create"},
        {"op": "create", "container": "x", "spec": {}, "streams": {}, "storages": [{"kind": "nothing", "at": "x"}]},
        {"op": "resize", "container": "unknown", "width": 1, "height": 1},
        {"op": "exec", "container": "unknown", "process": "e", "spec": {}, "streams": {}},
    ):
        with pytest.raises(Refused):
            place.client.request(**fields)
    place.remove("x")


def test_fifty_at_once(place):
    """Lifecycle 138: each has its own output and its own code."""
    client, id = place.client, place.run(*SLEEP)
    wanted = {}
    for number in range(50):
        streams = client.open_streams("stdout")
        process = place.process_spec("sh", "-c", f"echo {number}; exit {number}")
        wanted[number] = (client.ask_exec(id, f"p{number}", process, streams), streams["stdout"])
    for number, (request, stream) in wanted.items():
        client.answer(request)
        end = client.exit_of(id, f"p{number}")
        assert (end["code"], client.output(stream)) == (number, f"{number}\n".encode())
