"""The package's source files as syntax trees, and what each of them imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "netweight"
DOCS = REPOSITORY / "docs" / "architecture.md"


@dataclass(frozen=True)
class Import:
    """One imported module: ``netweight.a.b`` for ``from netweight.a import b``, whether b is a module or a name."""

    target: str
    line: int


@dataclass(frozen=True)
class Source:
    """One file. ``room`` is its first folder or, directly in the package, its own name."""

    path: Path
    module: str
    room: str
    text: str
    tree: ast.Module

    def __str__(self) -> str:
        return str(self.path.relative_to(PACKAGE))


def source(path: Path, root: Path = PACKAGE) -> Source:
    parts = path.relative_to(root).with_suffix("").parts
    text = path.read_text(encoding="utf-8")
    module = ".".join(("netweight", *(parts[:-1] if parts[-1] == "__init__" else parts)))
    return Source(path, module, parts[0], text, ast.parse(text, str(path)))


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the package."""
    return tuple(source(path) for path in sorted(PACKAGE.rglob("*.py")))


def imports(file: Source) -> Iterator[Import]:
    """All imports of a file, those inside functions and under TYPE_CHECKING too; relative ones made absolute."""
    package = file.module if file.path.name == "__init__.py" else file.module.rpartition(".")[0]
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in node.names)


def names_defined(tree: ast.Module) -> set[str]:
    """Names a module defines or imports at top level."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def documented_steps() -> tuple[tuple[str, ...], ...]:
    """The order of the rooms in docs/architecture.md: ``formats < models < ... < compress = evaluate < ...``."""
    line = next(line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.strip().startswith("`formats <"))
    return tuple(tuple(step.strip().split(" = ")) for step in line.strip().strip("`").split(" < "))


def documented_shared_modules() -> frozenset[str]:
    """The modules that docs/architecture.md lets every room import."""
    found = re.search(r"shared modules at the top \(`([^`]+)`\)", DOCS.read_text(encoding="utf-8"))
    return frozenset(found[1].split()) if found else frozenset()
