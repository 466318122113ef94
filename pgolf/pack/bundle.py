"""The one-file submission: generated, executed as it is, and counted by its size on disk.

    #coding:latin1
    import brotli
    n=0
    for c in open(__file__,"rb").read()[K:]:n=n*253+c-(c>10)-(c>13)-1
    exec(brotli.decompress(n.to_bytes(L)))
    #<payload>

The payload is the Brotli stream of the minified program as digits to the base 253, one a byte, in a comment: a
source file in Latin-1 may hold every byte but NUL, CR and LF there. That costs 0.2 %, where base85 costs 25 %.

The program (`pgolf.pack.program`) is what scoring loads, reduced to what this config's network and windows reach
(`pgolf.pack.prune`), with both written out as values in its last line, a call of `pgolf.evaluate.deployed.main`.
It runs where there are torch, numpy, sentencepiece, brotli and constriction, and nothing else is installed.
"""

import ast
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import brotli
import python_minifier

from pgolf.pack.program import BundleError, Program, program_of, sources_of
from pgolf.pack.prune import pruned
from pgolf.section import Section, digest_of

BUNDLE = "train_gpt.py"
ENTRY, MAIN = "pgolf.evaluate.deployed", "main"
CODED, PLAIN = "pgolf.formats.ans", "pgolf.formats.byte_codec"  # what decodes artifacts: one of the two
INSTALLED = {"torch", "numpy", "sentencepiece", "brotli", "constriction", *sys.stdlib_module_names}
MARK = 12  # digits of the digest by which the bundle knows its network
BASE = 253  # bytes that a comment in a Latin-1 source may hold: all but NUL, LF and CR
DIGITS = bytes(byte for byte in range(256) if byte not in b"\0\n\r")
START = """\
#coding:latin1
import brotli
n=0
for c in open(__file__,"rb").read()[{start}:]:n=n*253+c-(c>10)-(c>13)-1
exec(brotli.decompress(n.to_bytes({length})))
#"""


def bundle(model: Section, evaluate: Section, without: frozenset[str] = frozenset()) -> bytes:
    """The file that scores artifacts of this network in these windows.

    Args:
        without: modules to leave out; what imports them inside a function cannot be used in the bundle.

    Raises:
        BundleError: if the program needs what is not installed, or what cannot be bundled.
    """
    return self_extracting(source(model, evaluate, without))


def unneeded(codec: str) -> frozenset[str]:
    """Modules that artifacts of a codec are read without."""
    return frozenset({PLAIN if codec == "ans" else CODED})


def sources_digest() -> str:
    """Of all that decides what bundles are made of and how: sources, the bundler, the packages it uses."""
    makers = [Path(__file__).with_name(name).read_text() for name in ("bundle.py", "program.py", "prune.py")]
    used = [version("python-minifier"), version("brotli"), "{}.{}".format(*sys.version_info)]
    return digest_of([sources_of(ENTRY), makers, used])


@cache
def source(model: Section, evaluate: Section, without: frozenset[str] = frozenset()) -> str:
    """The program inside, minified."""
    program = program_of(ENTRY, without)
    mark = ast.Constant(digest_of(model.plain())[:MARK])
    arguments = [_written(program, model), _written(program, evaluate), mark]
    last = ast.Expr(ast.Call(ast.Name(program.names[ENTRY, MAIN], ast.Load()), arguments, []))
    body = pruned(program, last)
    _allow_other_names(body)
    module = ast.fix_missing_locations(ast.Module(_imports(program, body) + body, []))
    return str(python_minifier.minify(
        ast.unparse(module), rename_globals=True, hoist_literals=False, remove_annotations=False
    ))  # fmt: skip


def self_extracting(text: str) -> bytes:
    """A Python file of few bytes that runs `text`."""
    packed = min((brotli.compress(text.encode(), quality=11, lgwin=w) for w in (16, 18, 22)), key=len)
    value, digits = int.from_bytes(packed, "big"), bytearray()
    while value:
        value, digit = divmod(value, BASE)
        digits.append(DIGITS[digit])
    start = 0
    while (head := START.format(start=start, length=len(packed))) and len(head) != start:
        start = len(head)
    return head.encode() + bytes(reversed(digits))


def _written(program: Program, value: object) -> ast.expr:
    """The expression that makes a section, or a plain value of one."""
    if isinstance(value, Section):
        kind = program.names.get((type(value).__module__, type(value).__name__))
        if kind is None:
            raise BundleError(f"{type(value).__name__} is not part of what {ENTRY} imports")
        fields = [
            ast.keyword(name, _written(program, getattr(value, name))) for name in type(value).model_fields
        ]
        return ast.Call(ast.Name(kind, ast.Load()), [], fields)
    if isinstance(value, tuple | list):
        return (ast.Tuple if isinstance(value, tuple) else ast.List)(
            [_written(program, v) for v in value], ast.Load()
        )
    if value is None or isinstance(value, bool | int | float | str):
        return ast.Constant(value)
    raise BundleError(f"a {type(value).__name__} cannot be written out")


def _allow_other_names(body: list[ast.stmt]) -> None:
    """Parameters that nobody passes by name are made positional, so that the minifier may rename them."""
    nodes = [node for statement in body for node in ast.walk(statement)]
    named = {node.arg for node in nodes if isinstance(node, ast.keyword)}
    named |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in nodes:
        if isinstance(node, ast.arguments):
            while node.args and node.args[0].arg not in named:
                node.posonlyargs.append(node.args.pop(0))


def _imports(program: Program, body: list[ast.stmt]) -> list[ast.stmt]:
    """Import statements for the names of other packages that are left."""
    used = {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    out: list[ast.stmt] = []
    for here, path in sorted(program.imports.items()):
        if here not in used:
            continue
        module, _, name = path.rpartition(".")
        if path.partition(".")[0] not in INSTALLED:
            raise BundleError(f"the bundle needs {path}, which is not installed where it runs")
        out += [ast.Import([ast.alias(loaded)]) for loaded in sorted(program.loaded.get(here, ()))]
        alias = ast.alias(name, here)
        out.append(ast.ImportFrom(module, [alias], 0) if module else ast.Import([alias]))
    return out
