"""Compiles the modules that the guest's interpreter needs; a script for a fresh, isolated interpreter.

Runs in: a child of skerry image build, as a script.   Imports: only what the modules under it import.
Source:  importlib's pycs (PEP 552): magic, flags, hash, marshalled code.
Never:   imported; looks at anything but the interpreter's own library and skerry.

On stdin a JSON document: `package` (the directory of skerry), `parts` (what of it the guest has not), `target` (where
it is in the guest), `extra` (modules of the library that must be there), `without` (those that must not). On stdout
marshalled `{"files": {guest path: content}, "extensions": [paths here]}`.

A process of its own, because bytes that marshal writes depend on which strings were seen before, and because whatever
this interpreter had imported would be taken for needed.
"""

import ast
import importlib.util
import json
import marshal
import os
import sys

_UNCHECKED_HASH = (1).to_bytes(4, "little")


def main() -> None:
    wanted = json.load(sys.stdin)
    for name in wanted["without"]:
        sys.modules[name] = None  # type: ignore[assignment]
    sources = package_sources(wanted["package"], wanted["parts"])
    names = set(wanted["extra"]) | library_imports(sources.values())
    for name in sorted(names):
        try:
            __import__(name)
        except ImportError:
            continue  # another platform's, or one of `without`: whoever imports it can do without
    files = {
        f"{wanted['target']}/{os.path.splitext(path)[0]}.pyc": compiled(source, path)
        for path, source in sources.items()
    }
    extensions = []
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if path.endswith(".py") and module.__name__ not in ("__main__",):
            with open(path, "rb") as file:
                files[path + "c"] = compiled(file.read(), path)
        elif path.endswith(".so"):
            extensions.append(path)
    # os is frozen in the interpreter, but by this file it knows its library.
    landmark = os.__file__
    with open(landmark, "rb") as file:
        files[landmark + "c"] = compiled(file.read(), landmark)
    answer = {"files": dict(sorted(files.items())), "extensions": sorted(extensions)}
    sys.stdout.buffer.write(marshal.dumps(answer))


def package_sources(package: str, without: "list[str]") -> "dict[str, bytes]":
    """path below the package's parent -> source, without those parts."""
    found = {}
    parent = os.path.dirname(package)
    for directory, subdirectories, names in os.walk(package):
        subdirectories[:] = sorted(
            name
            for name in subdirectories
            if os.path.relpath(f"{directory}/{name}", package) not in without
            and name != "__pycache__"
        )
        for name in sorted(names):
            path = f"{directory}/{name}"
            if name.endswith(".py") and os.path.relpath(path, package) not in without:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, parent)] = file.read()
    return found


def library_imports(sources: "object") -> "set[str]":
    """Modules that are imported anywhere in these, also late; not those for the type checker."""
    found = set()
    for source in sources:  # type: ignore[attr-defined]
        tree = ast.parse(source)
        checker_only = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            for child in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in checker_only:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name for name in found if name.partition(".")[0] != "skerry"}


def compiled(source: bytes, path: str) -> bytes:
    """A .pyc that is never compared with its source, without docstrings."""
    code = compile(source, path, "exec", dont_inherit=True, optimize=2)
    hashed = importlib.util.source_hash(source)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + hashed + marshal.dumps(code)


if __name__ == "__main__":
    main()
