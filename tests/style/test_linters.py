"""ruff, mypy, codespell and clang-format, as tests: warnings are errors."""

import subprocess
import sys
from pathlib import Path

import pytest
from sources import TOP

BIN = Path(sys.executable).parent


def clean(program: str, *arguments: str) -> None:
    if not (BIN / program).exists():
        pytest.skip(f"{program} is not in this environment: pip install -r requirements-dev.txt")
    done = subprocess.run([BIN / program, *arguments], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff():
    clean("ruff", "check", "--no-cache", "--output-format=concise", ".")


def test_mypy():
    clean("mypy", "--cache-dir=/dev/null")


def test_codespell():
    clean("codespell")


def test_clang_format():
    """Headers are left out: what is laid out by hand in them are macros."""
    files = sorted(str(p) for d in ("init", "launcher") for p in (TOP / d).glob("*.c"))
    clean("clang-format", "--dry-run", "--Werror", *files)


def shell_scripts() -> list[str]:
    scripts = [*TOP.glob("tools/*"), TOP / ".ci/run"]
    return [str(p) for p in scripts if p.is_file() and p.read_bytes().startswith(b"#!/bin/sh")]


@pytest.mark.parametrize("script", shell_scripts())
def test_shell_scripts_parse(script):
    subprocess.run(["sh", "-n", script], check=True)
