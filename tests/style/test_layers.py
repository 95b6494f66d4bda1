"""Imports go down only."""

import ast

import pytest
from layers import ALLOWED, ENTRANCES, LAYERS, layer_of
from sources import modules, tree


def imported(name: str) -> set[str]:
    """The parts of skerry that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            dotted = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {d.split(".")[1] for d in dotted if d.startswith("skerry.")}
    return found - {"__version__"}


def part_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def test_every_part_of_the_package_has_a_layer():
    for name in modules():
        if part_of(name) not in ENTRANCES:
            layer_of(part_of(name))


def test_no_module_imports_relatively():
    for name in modules():
        for node in ast.walk(tree(name)):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}:{node.lineno}"


def test_imports_go_down():
    wrong = []
    for name in modules():
        part = part_of(name)
        if part in ENTRANCES:
            continue
        for other in imported(name) - {part}:
            if (part, other) not in ALLOWED and layer_of(other) > layer_of(part):
                wrong.append(f"{name} imports {other}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_faces_do_not_know_their_like():
    apart = [{"cli", "shims", "agent"}]  # that native does not know vm is in the table
    wrong = []
    for name in modules():
        for group in apart:
            if part_of(name) in group:
                wrong += [f"{name} imports {o}" for o in imported(name) & group - {part_of(name)}]
    assert not wrong, "\n".join(wrong)


def test_verbs_do_not_import_verbs():
    """One verb, one file: what two of them share stands in a file that is no verb."""
    if "cli/main.py" not in modules():
        pytest.skip("there is no command line yet")
    from skerry.cli.main import VERBS

    verbs = {module.rpartition(".")[2] for module in VERBS.values()}
    wrong = []
    for name in modules():
        if name.startswith("cli/") and name[4:-3] in verbs:
            for node in ast.walk(tree(name)):
                if isinstance(node, ast.ImportFrom) and node.module == "skerry.cli":
                    known = {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    known = {(node.module or "").removeprefix("skerry.cli.")}
                else:
                    continue
                wrong += [f"{name} imports {verb}" for verb in known & verbs]
    assert not wrong, "\n".join(wrong)


def test_the_table_names_nothing_twice():
    names = [name for layer in LAYERS for name, _ in layer]
    assert len(names) == len(set(names))
