"""A module opens with its facts: where it runs, what it imports, where its knowledge is from."""

import ast
import re

from sources import modules, tree

FACTS = ("Runs in:", "Imports:")
ONE_OF = ("Source:", "Never:")


def is_package_marker(name: str) -> bool:
    """Nothing but the docstring and constants."""
    inert = (ast.Expr, ast.Assign)
    return name.endswith("__init__.py") and all(isinstance(n, inert) for n in tree(name).body)


def test_modules_state_their_facts():
    wrong = []
    for name in modules():
        text = ast.get_docstring(tree(name)) or ""
        missing = [fact for fact in FACTS if fact not in text]
        if not any(fact in text for fact in ONE_OF):
            missing.append(" or ".join(ONE_OF))
        if missing and not is_package_marker(name):
            wrong.append(f"{name}: no {', '.join(missing)}")
    assert not wrong, "\n".join(wrong)


def test_package_markers_say_what_the_folder_is():
    wrong = [n for n in modules() if n.endswith("__init__.py") and not ast.get_docstring(tree(n))]
    assert not wrong


def test_docstrings_do_not_list_arguments():
    """The signature does that, and the type checker reads it."""
    lists = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Raises):\s*$|:param |@param ", re.M)
    wrong = []
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                if lists.search(ast.get_docstring(node) or ""):
                    wrong.append(f"{name}: {getattr(node, 'name', 'module')}")
    assert not wrong
