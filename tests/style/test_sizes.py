"""Files and functions of a size that one person holds in mind."""

import ast

from sources import TOP, modules, offenders, tree

FILE_LINES = 400
FUNCTION_LINES = 60
C_FUNCTION_LINES = 60
BANNED_NAMES = {
    "utils", "common", "helpers", "misc", "manager", "base", "core", "types", "service",
}  # fmt: skip


def test_files_have_one_responsibility():
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    long = {
        n: f"{count} lines, past {FILE_LINES}" for n, count in lines.items() if count > FILE_LINES
    }
    assert not offenders("file", long)


def functions(name: str):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            yield node


def length(node: ast.FunctionDef) -> int:
    """Lines of the body: the docstring is not what has to be held in mind."""
    body = node.body
    if ast.get_docstring(node) is not None and len(body) > 1:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1


def test_functions_are_short():
    long = {
        f"{name}:{node.name}": f"{length(node)} lines, past {FUNCTION_LINES}"
        for name in modules()
        for node in functions(name)
        if length(node) > FUNCTION_LINES
    }
    assert not offenders("function", long)


def test_c_functions_are_short():
    long = {}
    for path in [*TOP.glob("init/*.c"), *TOP.glob("launcher/*.c")]:
        name, begin, title = str(path.relative_to(TOP)), 0, ""
        for number, line in enumerate(path.read_text().splitlines()):
            if line == "{":
                begin = number
            elif line == "}" and number - begin > C_FUNCTION_LINES:
                long[f"{name}:{title}"] = f"{number - begin} lines, past {C_FUNCTION_LINES}"
            elif line and line[0] not in " \t{}/*#":
                title = line.partition("(")[0].split()[-1].lstrip("*")
    assert not offenders("c-function", long)


def test_no_file_is_named_after_nothing():
    bad = [n for n in modules() if n.rpartition("/")[2].removesuffix(".py") in BANNED_NAMES]
    assert not [name for name in bad if name != "spec/types.py"]


def test_no_flag_is_passed_by_position():
    """A call that ends in `, True)` says nothing: options come after the star."""
    wrong = {}
    for name in modules():
        for node in functions(name):
            arguments = node.args
            by_position = arguments.posonlyargs + arguments.args
            defaults = by_position[len(by_position) - len(arguments.defaults) :]
            for argument, default in zip(defaults, arguments.defaults, strict=True):
                if isinstance(default, ast.Constant) and isinstance(default.value, bool):
                    wrong[f"{name}:{node.name}"] = f"`{argument.arg}` is a flag by position"
    assert not offenders("flag", wrong)
