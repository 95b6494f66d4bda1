"""Terminals: console socket, foreground relay, sizes, /dev/console, resize-tty."""

import os
import signal
from collections.abc import Iterator

import pytest
from support.box import Box, Container
from support.spec import fresh_spec, shell
from support.terminal import ConsoleSocket, Terminal, open_terminal


@pytest.fixture
def console(box: Box) -> Iterator[ConsoleSocket]:
    console = ConsoleSocket(box.dir / "console.sock")
    yield console
    console.close()


def with_terminal(spec: dict) -> dict:
    spec["process"]["terminal"] = True
    return spec


def make(box: Box, console: ConsoleSocket, spec: dict) -> tuple[Container, Terminal]:
    """Create a container with a terminal; the master comes before create returns."""
    end, out = os.pipe()
    os.close(end)
    try:
        container = box.create(with_terminal(spec), "--console-socket", console.path, stdout=out)
    finally:
        os.close(out)
    return container, console.receive()


def test_console_socket(box: Box, console: ConsoleSocket) -> None:
    """lifecycle 132."""
    container, terminal = make(box, console, fresh_spec("probe", "tty"))
    container.start()
    lines = terminal.rest().splitlines()
    assert "isatty 1 1 1" in lines
    assert "name /dev/pts/0" in lines
    assert "controlling 1" in lines
    assert "leader 1" in lines
    assert "foreground 1" in lines
    terminal.close()


def test_input_and_control_characters(box: Box, console: ConsoleSocket) -> None:
    container, terminal = make(box, console, shell("read x; echo got $x; exec cat"))
    container.start()
    terminal.write("word\n")
    terminal.until("got word")
    terminal.write("\x04")
    assert container.wait() == 0
    terminal.close()


def test_interrupt_character_is_a_signal(box: Box, console: ConsoleSocket) -> None:
    """The terminal controls the session."""
    container, terminal = make(box, console, shell("trap 'echo caught; exit 9' INT; echo up; while :; do read x; done"))
    container.start()
    terminal.until("up")
    terminal.write("\x03")
    terminal.until("caught")
    assert container.wait() == 9
    terminal.close()


def test_closed_terminal_is_a_hangup(box: Box, console: ConsoleSocket) -> None:
    container, terminal = make(box, console, fresh_spec("probe", "catch"))
    container.start()
    terminal.until("ready")
    terminal.close()
    assert container.wait() == signal.SIGHUP


def test_console_size(box: Box, console: ConsoleSocket) -> None:
    spec = fresh_spec("probe", "size")
    spec["process"]["consoleSize"] = {"height": 33, "width": 111}
    container, terminal = make(box, console, spec)
    container.start()
    assert "33 111" in terminal.rest()
    terminal.close()


def test_resize_by_the_master_is_seen(box: Box, console: ConsoleSocket) -> None:
    container, terminal = make(box, console, fresh_spec("probe", "winch"))
    container.start()
    terminal.until("ready")
    terminal.size = (40, 90)
    terminal.until("40 90")
    terminal.close()


def test_dev_console_is_the_terminal(box: Box, console: ConsoleSocket) -> None:
    """V15-lite: a character device of this devpts; what is written there arrives."""
    script = "stat -c '%t:%T %F' /dev/console /dev/pts/0; echo by console > /dev/console; grep -c ' /dev/console ' /proc/mounts"
    container, terminal = make(box, console, shell(script))
    container.start()
    lines = [line.strip() for line in terminal.rest().splitlines()]
    assert lines == ["88:0 character special file"] * 2 + ["by console", "1"]
    terminal.close()


def test_slave_belongs_to_the_user(box: Box, console: ConsoleSocket) -> None:
    """The user must be able to open its own terminal again."""
    spec = shell("stat -c '%u %a' /dev/pts/0; echo again > /dev/tty; echo own > /dev/pts/0")
    spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    container, terminal = make(box, console, spec)
    container.start()
    lines = terminal.rest().splitlines()
    assert lines[0].split()[0] == "1000"
    assert lines[1:] == ["again", "own"]
    terminal.close()


def test_terminal_without_a_socket_is_refused_when_detached(box: Box) -> None:
    """lifecycle 132."""
    box.refuses(with_terminal(fresh_spec()), "cannot allocate tty if ", "without setting console socket")


def test_socket_without_a_terminal_is_refused(box: Box, console: ConsoleSocket) -> None:
    """lifecycle 132."""
    spec = fresh_spec()
    box.try_create(spec, "--console-socket", console.path).failed().says(
        "cannot use console socket if ", "will not detach or allocate tty"
    )
    assert box.leftovers() == []


@pytest.mark.skerry_only("lifecycle 132: the texts name skerry")
def test_texts_name_skerry(box: Box, console: ConsoleSocket) -> None:
    text = "cannot allocate tty if skerry will detach without setting console socket"
    box.refuses(with_terminal(fresh_spec()), text)
    text = "cannot use console socket if skerry will not detach or allocate tty"
    box.try_create(fresh_spec(), "--console-socket", console.path).failed().says(text)


def test_console_socket_that_is_none(box: Box) -> None:
    for name in ("missing.sock", ".", "long" * 50):
        result = box.try_create(with_terminal(fresh_spec()), "--console-socket", box.dir / name).failed()
        assert "[Errno" not in result.err, result
        assert box.leftovers() == []


def test_foreground_relay(box: Box) -> None:
    """run with a terminal: what comes and goes passes through the face, exit code included."""
    terminal, slave = open_terminal()
    spec = with_terminal(shell("probe tty; read x; echo got $x; exit 6"))
    running = box.spawn_run(spec, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    terminal.until("foreground 1")
    terminal.write("word\r")
    terminal.until("got word")
    assert running.finish().code == 6
    assert "isatty 1 1 1" in terminal.text
    terminal.close()


def test_foreground_relay_passes_all_output(box: Box) -> None:
    """The last bytes before the exit are not lost."""
    terminal, slave = open_terminal()
    running = box.spawn_run(with_terminal(shell("seq 20000; echo the end")), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    text = terminal.until("the end")
    assert running.finish().code == 0
    assert [line for line in text.splitlines() if line.isdigit()] == [str(n) for n in range(1, 20001)]
    terminal.close()


def test_foreground_size_is_that_of_the_caller(box: Box) -> None:
    terminal, slave = open_terminal()
    terminal.size = (37, 97)
    running = box.spawn_run(with_terminal(fresh_spec("probe", "size")), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    running.finish().ok()
    assert "37 97" in terminal.rest()
    terminal.close()


def test_foreground_winch(box: Box) -> None:
    """features: WINCH resizes."""
    terminal, slave = open_terminal()
    running = box.spawn_run(with_terminal(fresh_spec("probe", "winch")), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    terminal.until("ready")
    terminal.size = (38, 98)
    running.signal(signal.SIGWINCH)
    terminal.until("38 98")
    assert running.finish().code == 0
    terminal.close()


def test_callers_terminal_is_put_back(box: Box) -> None:
    """Raw while relaying, as before afterwards, also when the container fails to start."""
    import termios

    for args in (["true"], ["none"]):
        terminal, slave = open_terminal()
        before = termios.tcgetattr(slave)
        spec = with_terminal(fresh_spec(*args))
        box.spawn_run(spec, stdin=slave, stdout=slave, stderr=slave).finish()
        assert termios.tcgetattr(slave) == before
        os.close(slave)
        terminal.close()


# --- exec

def test_exec_with_console_socket(box: Box, console: ConsoleSocket) -> None:
    container = box.parked(fresh_spec())
    pid_file = box.dir / "exec.pid"
    flags = ("--tty", "--detach", "--pid-file", pid_file, "--console-socket", console.path)
    container.exec("probe", "tty", flags=flags).ok()
    terminal = console.receive()
    text = terminal.rest()
    assert "isatty 1 1 1" in text
    assert "controlling 1" in text
    os.waitpid(int(pid_file.read_text()), 0)
    terminal.close()


def test_exec_tty_in_the_foreground(box: Box) -> None:
    container = box.parked(fresh_spec())
    terminal, slave = open_terminal()
    running = box.runtime.spawn(
        "exec", "-t", container.id, "sh", "-c", "probe tty; exit 3", stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    assert running.finish().code == 3
    assert "isatty 1 1 1" in terminal.rest()
    terminal.close()


def test_exec_tty_detached_needs_a_socket(box: Box) -> None:
    """lifecycle 132."""
    container = box.parked(fresh_spec())
    container.exec("true", flags=("-t", "-d")).failed(255)


def test_exec_without_tty_on_a_terminal_container(box: Box, console: ConsoleSocket) -> None:
    """lifecycle 97: a terminal only with --tty, though the stored process has one."""
    container, terminal = make(box, console, fresh_spec("probe", "park"))
    container.start()
    terminal.until("ready")
    assert container.exec("probe", "tty").ok().lines[0] == "isatty 0 0 0"
    terminal.close()


# --- resize-tty

@pytest.mark.skerry_only("lifecycle 111: resize-tty is ours")
def test_resize_tty(box: Box, console: ConsoleSocket) -> None:
    container, terminal = make(box, console, fresh_spec("probe", "winch"))
    container.start()
    terminal.until("ready")
    box.runtime.call("resize-tty", container.id, 101, 51).ok()
    terminal.until("51 101")
    assert terminal.size == (51, 101)
    terminal.close()


@pytest.mark.skerry_only("lifecycle 111")
def test_resize_tty_of_an_exec(box: Box, console: ConsoleSocket) -> None:
    container = box.parked(fresh_spec())
    pid_file = box.dir / "exec.pid"
    flags = ("--tty", "--detach", "--pid-file", pid_file, "--console-socket", console.path)
    container.exec("probe", "winch", flags=flags).ok()
    terminal = console.receive()
    terminal.until("ready")
    pid = int(pid_file.read_text())
    box.runtime.call("resize-tty", "--pid", pid, container.id, 90, 30).ok()
    terminal.until("30 90")
    os.waitpid(pid, 0)
    text = f"state 'exec-{pid}' is not present for ID '{container.id}'"
    box.runtime.call("resize-tty", "--pid", pid, container.id, 90, 30).failed().says(text)
    terminal.close()


@pytest.mark.skerry_only("lifecycle 111")
@pytest.mark.parametrize("size", [("0", "1"), ("1", "65536"), ("-1", "5"), ("a", "5"), ("1.5", "5"), ("5",)], ids=str)
def test_resize_tty_words(box: Box, console: ConsoleSocket, size: tuple[str, ...]) -> None:
    container, terminal = make(box, console, fresh_spec("probe", "park"))
    before = terminal.size
    box.runtime.call("resize-tty", container.id, "--", *size).failed()
    assert terminal.size == before
    terminal.close()


@pytest.mark.skerry_only("lifecycle 111")
def test_resize_tty_without_a_terminal(box: Box) -> None:
    container = box.parked(fresh_spec())
    box.runtime.call("resize-tty", container.id, 80, 25).failed()
    assert container.status == "running"
