"""Calls that are not made, and why. One list, so that the reason is found where the rule is."""

import ast

import pytest
from sources import modules, offenders, tree

HOT_PARTS = (
    "native/", "plan/", "state/", "spec/", "linux/", "container.py", "hooks.py", "log.py",
    "errors.py", "paths.py", "jsonio.py",
)  # fmt: skip

# rule -> (names of calls or modules, where the rule holds, why)
CALLS = {
    "shell": (
        {"os.system", "os.popen", "posix.system", "subprocess.getoutput"},
        "",
        "a shell parses what should be passed on",
    ),
    "sleep": ({"time.sleep"}, "", "whatever is waited for has an fd"),
    "eval": ({"eval", "exec", "compile"}, "", "data is never code"),
    "fork": (
        {"os.fork", "posix.fork", "os.setns", "os.unshare", "posix.setns", "posix.unshare"},
        "",
        "no Python in a container's namespaces; a plan does it (CVE-2016-9962, CVE-2019-5736)",
    ),
    "follow": (
        {
            "os.makedirs", "os.path.realpath", "os.path.exists", "shutil.rmtree", "shutil.copytree",
            "os.openpty", "posix.openpty",
        },
        "",
        "follows links of a hostile rootfs (CVE-2021-30465, CVE-2024-45310)",
    ),
    "names": (
        {"pwd.getpwnam", "grp.getgrnam", "socket.getaddrinfo", "pwd.getpwuid", "grp.getgrgid"},
        "state/",
        "loads plugins of the host (CVE-2019-14271)",
    ),
    "process": (
        {"os.chdir", "posix.chdir", "os.umask", "posix.umask", "os.fchdir", "posix.fchdir"},
        "",
        "as a library skerry leaves the process as it was; only cli and shims may",
    ),
    "print": ({"print"}, "", "only a face speaks"),
}  # fmt: skip
ONLY_IN = {"process": ("cli/", "shims/"), "print": ("cli/", "shims/")}

# module -> why it is not imported, where the rule holds
IMPORTS = {
    "pickle": ("", "runs code of whoever wrote the data"),
    "threading": ("", "a process that starts containers has no threads"),
    "multiprocessing": ("", "forks an interpreter"),
    "logging": ("", "15 ms to import; log.py"),
    "dataclasses": ("hot", "16 ms to import; slots classes"),
    "pathlib": ("hot", "11 ms to import, and resolves"),
    "json": ("hot", "8 ms to import, and lax; jsonio.py"),
    "subprocess": ("hot", "12 ms to import; linux/process.py"),
    "tempfile": ("hot", "12 ms to import"),
    "typing": ("hot", "11 ms to import; only under TYPE_CHECKING"),
    "ctypes": ("all but linux/libc.py", "no checks of widths, no retries: one module has it"),
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


@pytest.mark.parametrize("rule", CALLS)
def test_forbidden_calls(rule):
    names, where, why = CALLS[rule]
    found = {}
    for module in modules():
        allowed = ONLY_IN.get(rule, ())
        if not module.startswith(where) or module.startswith(tuple(allowed)):
            continue
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and dotted(node.func) in names:
                found[module] = f"line {node.lineno} calls {dotted(node.func)}: {why}"
    assert not offenders(f"call {rule}", found)


def imports_at_run_time(module: str):
    """Every import but those for the checker alone."""
    checker_only = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING":
            checker_only |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree(module)):
        if id(node) in checker_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "", node)


def covered(module: str, where: str) -> bool:
    if where == "hot":
        return module.startswith(HOT_PARTS)
    return not (where and module == where.removeprefix("all but "))


@pytest.mark.parametrize("name", IMPORTS)
def test_forbidden_imports(name):
    """At the top of a module; a path off the hot one may import late, where it is needed."""
    where, why = IMPORTS[name]
    found = {}
    for module in modules():
        top_level = {id(node) for node in tree(module).body}
        for imported, node in imports_at_run_time(module):
            late = where == "hot" and id(node) not in top_level
            if imported.split(".")[0] == name and covered(module, where) and not late:
                found[module] = f"line {node.lineno} imports {name}: {why}"
    assert not offenders(f"import {name}", found)


def test_no_check_depends_on_assert():
    """P18: -O removes them."""
    found = {
        module: f"line {node.lineno}"
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Assert)
    }
    assert not offenders("assert", found)


def test_no_bare_except():
    found = {
        module: f"line {node.lineno}"
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    }
    assert not offenders("bare except", found)


def test_no_shell_by_keyword():
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                raise AssertionError(f"{module}: line {node.value.lineno} passes shell=")
