"""What the artifact's code costs: the compressed source of what decoding and scoring import.

Until a generated one-file submission exists, `code_bytes` is the Brotli-11 size of every pgolf module
that the scoring process (`python -m pgolf.evaluate`) imports, found by following the import
statements that run when a module is loaded. Libraries (torch, numpy) are not counted, by the rules of play.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import brotli

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "pgolf.evaluate.__main__"


def imported_modules(entry: str = ENTRY) -> list[str]:
    """The pgolf modules that `entry` imports, directly or not, itself and packages included, sorted."""
    found: set[str] = set()
    todo = [entry]
    while todo:
        name = todo.pop()
        if name in found or (file := _file_of(name)) is None:
            continue
        found.add(name)
        todo.append(name.rpartition(".")[0])
        for node in _at_import(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
    return sorted(found)


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: not the bodies of functions, which load what training
    on a GPU wants, nor what is there for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not (typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield node
            yield from _at_import(node)


def source_of(modules: list[str]) -> bytes:
    """The modules' sources, one after another, each behind a line with its name."""
    parts = []
    for name in modules:
        file = _file_of(name)
        assert file is not None
        parts.append(f"# {name}\n".encode() + file.read_bytes())
    return b"\n".join(parts)


def compressed_source() -> bytes:
    return brotli.compress(source_of(imported_modules()), quality=11)


def _file_of(name: str) -> Path | None:
    if name.partition(".")[0] != "pgolf":
        return None
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None
