"""Standard input and output over the link: credit, ends, terminals (docs/vm.md "The link", lifecycle 73)."""

import hashlib
import os
import re

import pytest
from support.agent_client import CLOSE, CREDIT, DATA, WINDOW, Refused

SLEEP = ("sleep", "1000")
MEGABYTE = 1 << 20


def test_megabytes_both_ways(place):
    client, id = place.client, place.name()
    streams = client.open_streams("stdin", "stdout")
    place.run("cat", id=id, streams=streams)
    data = os.urandom(2 * MEGABYTE)
    client.write(streams["stdin"], data)
    client.send(CLOSE, streams["stdin"])
    assert client.exit_of(id)["code"] == 0
    assert hashlib.sha256(client.output(streams["stdout"])).digest() == hashlib.sha256(data).digest()


def test_outputs_are_apart(place):
    client, id = place.client, place.name()
    streams = client.open_streams("stdout", "stderr")
    place.run("sh", "-c", "echo out; echo err >&2", id=id, streams=streams)
    client.exit_of(id)
    assert (client.output(streams["stdout"]), client.output(streams["stderr"])) == (b"out\n", b"err\n")


def test_exit_comes_after_the_closes(place):
    client, id = place.client, place.name()
    streams = client.open_streams("stdout", "stderr")
    place.run("echo", "x", id=id, streams=streams)
    client.exit_of(id)
    mine = {("close", streams["stdout"]), ("close", streams["stderr"]), ("exit", id, "init")}
    assert [word for word in client.order if word in mine][-1] == ("exit", id, "init")
    assert mine <= set(client.order)


def test_nothing_without_credit(place):
    """The agent reads no more than the host has room for, and other containers are not affected."""
    client, id = place.client, place.name()
    streams = client.open_streams("stdout", reading=False)
    place.run("sh", "-c", "busybox yes | head -c 1000000", id=id, streams=streams)
    other = place.run(*SLEEP)
    assert place.execute(other, "echo", "alive")[1] == b"alive\n"
    assert client.output(streams["stdout"]) == b""
    client.send(CREDIT, streams["stdout"], (1000).to_bytes(4, "little"))
    client.until(lambda: len(client.output(streams["stdout"])) >= 1000, "the first bytes")
    place.execute(other, "true")
    assert len(client.output(streams["stdout"])) == 1000
    assert not [e for e in client.events if e["event"] == "exit" and e["container"] == id]
    client.streams[streams["stdout"]].keep_reading = True
    client.send(CREDIT, streams["stdout"], WINDOW.to_bytes(4, "little"))
    assert client.exit_of(id)["code"] == 0
    assert len(client.output(streams["stdout"])) == 1_000_000


def test_what_was_written_before_the_end_arrives_however_late(place):
    """The process has ended long ago when the host begins to read."""
    client, id = place.client, place.name()
    streams = client.open_streams("stdout", reading=False)
    place.run("echo", "late", id=id, streams=streams)
    while client.request("status", container=id) != {"status": "stopped"}:
        pass
    client.streams[streams["stdout"]].keep_reading = True
    client.send(CREDIT, streams["stdout"], WINDOW.to_bytes(4, "little"))
    client.exit_of(id)
    assert client.output(streams["stdout"]) == b"late\n"


def test_open_stdin_does_not_delay_the_exit(place):
    client, id = place.client, place.name()
    place.run("true", id=id, streams=client.open_streams("stdin"))
    assert client.exit_of(id)["code"] == 0


def test_blocked_stdin_does_not_delay_the_exit(place):
    """More than a pipe holds waits for a process that never reads."""
    client, id = place.client, place.name()
    streams = client.open_streams("stdin")
    place.run("sleep", "1", id=id, streams=streams)
    client.until(lambda: client.streams[streams["stdin"]].credit >= WINDOW, "the first credit")
    for _ in range(2):
        client.send(DATA, streams["stdin"], b"x" * 32768)
    client.until(lambda: client.streams[streams["stdin"]].credit >= WINDOW + 32768, "credit for what the pipe took")
    for _ in range(2):
        client.send(DATA, streams["stdin"], b"x" * 32768)
    assert client.exit_of(id)["code"] == 0


def test_input_is_granted_as_it_is_read(place):
    """Nothing reads: the credit given is the window and what fits into a pipe."""
    client, id = place.client, place.name()
    streams = client.open_streams("stdin")
    place.run(*SLEEP, id=id, streams=streams)
    state = client.streams[streams["stdin"]]
    sent = 0
    client.until(lambda: state.credit, "credit")
    while state.credit:
        part = min(state.credit, 32768)
        state.credit -= part
        sent += part
        client.send(DATA, streams["stdin"], bytes(part))
        client.request("status", container=id)
    assert sent == WINDOW + 65536


def test_child_that_keeps_the_pipe(place):
    """Lifecycle 73: without a limit while the container lives."""
    client, id = place.client, place.run(*SLEEP)
    streams = client.open_streams("stdout")
    process = place.process_spec("sh", "-c", "(sleep 1; echo child) & echo parent")
    client.exec(id, "e", process, streams=streams)
    assert client.exit_of(id, "e")["code"] == 0
    assert client.output(streams["stdout"]) == b"parent\nchild\n"


def test_child_is_cut_off_with_its_container(place):
    """Lifecycle 73: the end of the container closes what is left, but not what was written before."""
    client, id = place.client, place.run(*SLEEP)
    streams = client.open_streams("stdout")
    client.exec(id, "e", place.process_spec("sh", "-c", "sleep 1000 & echo parent"), streams=streams)
    client.until(lambda: client.output(streams["stdout"]), "output")
    client.request("signal", container=id, process="init", signal=9, all=False)
    assert client.exit_of(id, "e")["code"] == 0
    assert client.output(streams["stdout"]) == b"parent\n"
    client.exit_of(id)


def test_foreign_writer_does_not_hold_the_exit_of_init(place):
    """A process of another container, in the same pid namespace, has the pipe; it is cut off all the same."""
    owner = place.run(*SLEEP)
    pid = place.client.request("processes", container=owner)["pids"][0]
    client, id = place.client, place.name()
    streams = client.open_streams("stdout")
    spec = place.spec(id, "sh", "-c", "sleep 1000 & echo parent")
    shared = {"type": "pid", "path": f"/proc/{pid}/ns/pid"}
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"] + [shared]
    place.run(id=id, spec=spec, streams=streams)
    assert client.exit_of(id)["code"] == 0
    assert client.output(streams["stdout"]) == b"parent\n"


def test_reader_that_went_away(place):
    """CLOSE for an output: the program gets SIGPIPE, as from a closed pipe."""
    client, id = place.client, place.run(*SLEEP)
    streams = client.open_streams("stdout")
    client.exec(id, "e", place.process_spec("busybox", "yes"), streams=streams)
    client.until(lambda: client.output(streams["stdout"]), "output")
    client.send(CLOSE, streams["stdout"])
    assert client.exit_of(id, "e")["signal"] == 13


def test_terminal(place):
    """Lifecycle 138: a terminal has one output, a size, and an end."""
    client, id = place.client, place.name()
    streams = client.open_streams("stdin", "stdout")
    spec = place.spec(id, "sh", "-c", "tty; read line; stty size; echo got $line")
    spec["process"]["terminal"] = True
    spec["process"]["consoleSize"] = {"width": 80, "height": 24}
    place.run(id=id, spec=spec, streams=streams)
    client.until(lambda: b"/dev/" in client.output(streams["stdout"]), "the name of the terminal")
    client.request("resize", container=id, process="init", width=132, height=50)
    client.write(streams["stdin"], b"hello\n")
    assert client.exit_of(id)["code"] == 0
    said = client.output(streams["stdout"]).replace(b"\r\n", b"\n")
    assert re.fullmatch(rb"/dev/\S+\nhello\n50 132\ngot hello\n", said), said


def test_terminal_of_an_exec(place):
    client, id = place.client, place.run(*SLEEP)
    streams = client.open_streams("stdin", "stdout")
    process = place.process_spec("sh", "-c", "cat", terminal=True)
    client.exec(id, "t", process, streams=streams)
    client.write(streams["stdin"], b"line\n\x04")
    assert client.exit_of(id, "t")["code"] == 0
    assert client.output(streams["stdout"]).endswith(b"line\r\nline\r\n")


def test_all_output_of_a_terminal_arrives(place):
    """The kernel hands it over after the program has ended."""
    client, id = place.client, place.run(*SLEEP)
    streams = client.open_streams("stdout")
    process = place.process_spec("sh", "-c", "seq 1 3000", terminal=True)
    client.exec(id, "t", process, streams=streams)
    client.exit_of(id, "t")
    assert client.output(streams["stdout"]).split() == [str(n).encode() for n in range(1, 3001)]


def test_terminal_that_a_child_keeps(place):
    """Cut off with the container, after a short silence."""
    client, id = place.client, place.run(*SLEEP)
    streams = client.open_streams("stdout")
    process = place.process_spec("sh", "-c", "(trap '' HUP; exec sleep 1000) & sleep 1; echo parent", terminal=True)
    client.exec(id, "t", process, streams=streams)
    client.until(lambda: b"parent" in client.output(streams["stdout"]), "output")
    client.request("signal", container=id, process="init", signal=9, all=False)
    assert client.exit_of(id, "t")["code"] == 0


def test_resize_without_a_terminal(place):
    id = place.run(*SLEEP)
    with pytest.raises(Refused, match="without one"):
        place.client.request("resize", container=id, process="init", width=80, height=24)


def test_late_frames_are_no_error(place):
    """Credit, data and CLOSE for streams that have just ended may be on their way."""
    client, id = place.client, place.name()
    streams = client.open_streams("stdin", "stdout")
    place.run("true", id=id, streams=streams)
    client.exit_of(id)
    client.send(DATA, streams["stdin"], b"late")
    client.send(CREDIT, streams["stdout"], WINDOW.to_bytes(4, "little"))
    client.send(CLOSE, streams["stdin"])
    assert client.request("status", container=id) == {"status": "stopped"}
