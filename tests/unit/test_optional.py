"""The door to libraries that may be missing, under the switches that skerry runs with."""

import subprocess
import sys

SETTINGS = ["/usr/bin/python3", "-S", "-B", "-c"]


def run(code):
    return subprocess.run(
        [*SETTINGS, code],
        env={"PYTHONPATH": ":".join(sys.path[1:]), "PYTHONUSERBASE": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_library_is_found_in_a_site_directory_only_when_asked_for(tmp_path):
    (tmp_path / "found_there.py").write_text("answer = 42\n")
    out = run(
        "import sys, site; from skerry import optional\n"
        f"site.getsitepackages = lambda: [{str(tmp_path)!r}]\n"
        f"assert {str(tmp_path)!r} not in sys.path\n"
        "print(optional.load('found_there').answer)\n"
        f"print(sys.path.index({str(tmp_path)!r}) == len(sys.path) - 1)\n"
        "optional.load('found_there')\n"
        f"print(sys.path.count({str(tmp_path)!r}))\n"
    )
    assert out.split() == ["42", "True", "1"]


def test_a_missing_library_is_one_clear_line():
    out = run(
        "from skerry import errors, optional\n"
        "try: optional.load('no_such_library', need='tables')\n"
        "except errors.Error as error: print(error)\n"
    )
    assert out == (
        "cannot load no_such_library for tables: No module named 'no_such_library'"
        " (install the Python package no_such_library)\n"
    )


def test_no_pth_file_runs(tmp_path):
    """P02, P03."""
    (tmp_path / "trap.pth").write_text("import sys; print('trapped')\n")
    out = run(
        "import site; from skerry import errors, optional\n"
        f"site.getsitepackages = lambda: [{str(tmp_path)!r}]\n"
        "try: optional.load('no_such_library')\n"
        "except errors.Error: print('refused')\n"
    )
    assert out == "refused\n"
