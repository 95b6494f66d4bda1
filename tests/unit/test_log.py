"""Log lines in the forms of logrus; lifecycle 134, section P."""

import datetime
import json
import os
import stat

import pytest

from skerry.errors import KernelError, UsageError
from skerry.linux.fd import open_fds
from skerry.log import SILENT, open_log

ODD = 'a "quoted" \\ line\nwith\t\x1b[31mANSI\x1b[0m and \udc80 ä'


def speak(log):
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    log.close()


def levels(path):
    return [json.loads(line)["level"] for line in path.read_text().splitlines()]


def test_json_lines_have_level_msg_time_lifecycle_134(tmp_path):
    path = tmp_path / "log"
    log = open_log(str(path), "json")
    log.error(ODD)
    log.close()
    (line,) = path.read_text().splitlines()
    record = json.loads(line)
    assert list(record) == ["level", "msg", "time"]
    assert (record["level"], record["msg"]) == ("error", ODD)
    moment = datetime.datetime.fromisoformat(record["time"])
    assert moment.tzinfo is not None
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(seconds=60)


def test_text_lines_look_like_logrus(tmp_path):
    path = tmp_path / "log"
    log = open_log(str(path))
    log.error(ODD)
    log.close()
    text = path.read_text()
    # one line, whatever the message holds (P07)
    assert text.count("\n") == 1 and text.endswith("\n")
    assert text[:-1].isprintable()
    head, _, message = text[:-1].partition(" msg=")
    assert head.startswith('time="') and head.endswith('" level=error')
    assert json.loads(message) == ODD


@pytest.mark.parametrize(
    ("debug", "seen"),
    [(False, ["info", "warning", "error"]), (True, ["debug", "info", "warning", "error"])],
)
def test_a_file_gets_errors_too_lifecycle_134(tmp_path, debug, seen):
    path = tmp_path / "log"
    speak(open_log(str(path), "json", debug))
    assert levels(path) == seen


@pytest.mark.parametrize(("debug", "seen"), [(False, "w"), (True, "diw")])
def test_without_a_file_stderr_gets_warnings_lifecycle_134(capfd, debug, seen):
    """The final error is the face's to print, so it is not here twice."""
    speak(open_log("", "text", debug))
    out, err = capfd.readouterr()
    assert out == ""
    assert [line[-2] for line in err.splitlines()] == list(seen)
    os.fstat(2)  # closing the log left it open


@pytest.mark.parametrize("value", ["xml", "", "JSON"])
def test_unknown_format_section_p(tmp_path, value):
    with pytest.raises(UsageError, match=f"^invalid log-format: {value}$"):
        open_log(str(tmp_path / "log"), value)
    assert not (tmp_path / "log").exists()


def test_lines_are_appended_and_the_file_is_private(tmp_path):
    """P08, V35."""
    path = tmp_path / "log"
    old = os.umask(0)
    try:
        first, second = open_log(str(path), "json"), open_log(str(path), "json")
    finally:
        os.umask(old)
    first.error("1")
    second.error("2")
    first.error("3")
    first.close()
    second.close()
    assert [json.loads(line)["msg"] for line in path.read_text().splitlines()] == ["1", "2", "3"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_is_not_inherited_and_closes(tmp_path):
    """P01."""
    before = open_fds()
    log = open_log(str(tmp_path / "log"))
    (fd,) = set(open_fds()) - set(before)
    assert not os.get_inheritable(fd)
    log.close()
    log.close()
    log.error("after the end")
    assert open_fds() == before


def test_a_reader_that_stopped_does_not_stop_us(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(KernelError, match="^cannot open log"):
        open_log(str(path))  # nobody reads
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = open_log(str(path))
    for _ in range(100):
        log.error("x" * 4096)  # more than the fifo holds
    log.close()
    os.close(reader)


def test_a_full_disk_is_not_what_the_verb_is_about():
    log = open_log("/dev/full")
    log.error("x")
    log.close()


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(KernelError, match="ENOENT"):
        open_log(str(tmp_path / "missing" / "log"))


def test_silent_says_nothing(capfd):
    speak(SILENT)
    assert capfd.readouterr() == ("", "")
