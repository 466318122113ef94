"""The modules that an entry point needs, as one list of statements in one namespace.

Import statements are followed from the entry on, those inside functions too; every name that a module defines
becomes one that no other module has (`prepare` of module 7: `prepare__7`), so that statements of different
modules can stand one after the other, definitions before their use. What only people, type checkers and pydantic
read goes: docstrings, annotations, asserts, validators. A config section becomes a plain class that takes its
settings as keywords: whoever makes one has validated it.
"""

import ast
import builtins
import pickle
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pgolf.errors import PgolfError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT.joinpath("pgolf").name
TYPED_BY_ANNOTATION = {"typing.NamedTuple", "typing.TypedDict", "dataclasses.dataclass"}
SCHEMA = "pydantic"
CHECKED_BEFORE = {
    "RuleBroken",
    "_refuse_unhashable",
    "resolve",
}  # for checks of configs: the bundled one passed


class BundleError(PgolfError):
    """The sources hold something that the bundler cannot put into one file: a fault of pgolf's own."""


@dataclass
class Item:
    """A statement at the top of the one namespace, and the names that it defines."""

    node: ast.stmt
    defines: tuple[str, ...]


@dataclass
class Program:
    """All statements in an order in which they can run, and what they take from other packages."""

    items: list[Item] = field(default_factory=list)
    imports: dict[str, str] = field(default_factory=dict)  # name here -> dotted path of what it stands for
    loaded: dict[str, set[str]] = field(
        default_factory=dict
    )  # the same name -> submodules loaded along with it
    sections: dict[str, list[str]] = field(default_factory=dict)  # section classes: their own settings
    errors: set[str] = field(default_factory=set)  # exceptions
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # (module, name there) -> name here
    sources: dict[str, str] = field(default_factory=dict)  # module -> its text


@dataclass
class _Module:
    name: str
    number: int
    body: list[ast.stmt]
    names: dict[str, str] = field(default_factory=dict)  # global name -> name here, or @module


def program_of(entry: str, without: Collection[str] = ()) -> Program:
    """The statements of `entry` and of all it imports, but for the modules in `without`.

    A function's import of a module that is left out raises ImportError where it stands.
    """
    program: Program = pickle.loads(_linked(entry, frozenset(without)))
    return program


def sources_of(entry: str) -> dict[str, str]:
    """The text of every module that `entry` may import, by name."""
    return program_of(entry).sources


@cache
def _linked(entry: str, without: frozenset[str]) -> bytes:
    """As bytes, since whoever gets the program changes it."""
    return pickle.dumps(_Linker(without).linked(entry))


def file_of(module: str) -> Path | None:
    """The source of a module of this package; None for those of others."""
    if module.partition(".")[0] != PACKAGE:
        return None
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


class _Linker:
    def __init__(self, without: Collection[str]) -> None:
        self.without = without
        self.modules: dict[str, _Module] = {}
        self.order: list[_Module] = []
        self.later: list[str] = []  # imported inside functions
        self.program = Program()

    def linked(self, entry: str) -> Program:
        self.later.append(entry)
        while self.later:
            self.load(self.later.pop(0))
        for module in self.order:
            _Resolver(self, module).run()
        return self.program

    def load(self, name: str) -> None:
        """Read a module, the modules that it imports before it."""
        if name in self.modules or (file := file_of(name)) is None:
            return
        text = self.program.sources[name] = file.read_text()
        tree = ast.parse(text)
        _strip(tree, self.without)
        module = self.modules[name] = _Module(name, len(self.modules), tree.body)
        for node in tree.body:
            for imported in _imported(node):
                if imported in self.without:
                    raise BundleError(f"{imported} is left out, and {name} imports it")
                self.load(imported)
        self.later += [m for node in ast.walk(tree) for m in _imported(node)]
        self._declare(module)
        self.order.append(module)

    def _declare(self, module: _Module) -> None:
        for node in module.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module.names |= self.bound_by(node)
            else:
                for name in _bound([node]):
                    module.names[name] = f"{name}__{module.number}"
        for name, here in module.names.items():
            self.program.names[module.name, name] = here

    def bound_by(self, node: ast.Import | ast.ImportFrom) -> dict[str, str]:
        """What an import statement's names stand for; @module for modules of this package."""
        out = {}
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None and not node.level, "imports are absolute"
                out[alias.asname or alias.name] = self.symbol(node.module, alias.name)
            else:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                if file_of(whole):
                    out[alias.asname or whole] = f"@{whole}"
                else:
                    out[alias.asname or whole] = self.external(whole, alias.name)
        return out

    def symbol(self, module: str, name: str) -> str:
        """The name here of what `from module import name` gives."""
        if file_of(module) is None:
            return self.external(f"{module}.{name}")
        if file_of(f"{module}.{name}"):
            return f"@{module}.{name}"
        self.load(module)
        if name not in self.modules[module].names:
            raise BundleError(f"{module} defines no {name}")
        return self.modules[module].names[name]

    def external(self, path: str, loaded: str = "") -> str:
        here = path.replace(".", "_") + "__x"
        self.program.imports[here] = path
        if loaded not in ("", path):
            self.program.loaded.setdefault(here, set()).add(loaded)
        return here


def _imported(node: ast.AST) -> list[str]:
    """The modules of this package that an import statement runs."""
    if isinstance(node, ast.ImportFrom) and node.module and file_of(node.module):
        submodules = [f"{node.module}.{alias.name}" for alias in node.names]
        return [m for m in (node.module, *submodules) if file_of(m)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if file_of(alias.name)]
    return []


def _bound(body: list[ast.stmt]) -> set[str]:
    """The names that a scope's statements bind; scopes inside it are not entered."""
    found: set[str] = set()
    outer: set[str] = set()

    def look(node: ast.AST, inside: bool) -> None:
        """`inside` a comprehension only := binds out here."""
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
                return
            case ast.Lambda():
                return
            case ast.NamedExpr(target=ast.Name(id=name)):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if not inside:
                found.add(name)
            case ast.Import() | ast.ImportFrom():
                found.update((a.asname or a.name).partition(".")[0] for a in node.names)
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                found.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                outer.update(names)
        inside = inside or isinstance(node, COMPREHENSIONS)
        for child in ast.iter_child_nodes(node):
            look(child, inside)

    for statement in body:
        look(statement, False)
    return found - outer


BLOCKS = ("body", "orelse", "finalbody")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _strip(node: ast.AST, without: Collection[str]) -> None:
    """Drops what the interpreter does not need, before names are looked at."""
    if isinstance(node, ast.FunctionDef):
        node.returns = None
        for arg in (
            *node.args.posonlyargs,
            *node.args.args,
            *node.args.kwonlyargs,
            node.args.vararg,
            node.args.kwarg,
        ):
            if arg is not None:
                arg.annotation = None
    elif isinstance(node, ast.ClassDef):
        for field_ in node.body:
            if isinstance(field_, ast.AnnAssign):
                of_class = "ClassVar" in ast.unparse(field_.annotation)
                field_.annotation = ast.Constant("ClassVar" if of_class else 0)
    for name in BLOCKS:
        if block := getattr(node, name, None):
            block[:] = list(_needed(block, without, isinstance(node, ast.ClassDef)))
            if not block and name == "body":
                block.append(ast.Pass())
            for child in block:
                _strip(child, without)
    for handler in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        _strip(handler, without)


def _needed(block: list[ast.stmt], without: Collection[str], in_class: bool) -> Iterator[ast.stmt]:
    for node in block:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assert():
                continue
            case (
                ast.Raise(exc=ast.Call(func=ast.Name(id=name)))
                | ast.Expr(value=ast.Call(func=ast.Name(id=name)))
            ) if name in CHECKED_BEFORE:
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=other):
                yield from _needed(other, without, in_class)
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                continue
            case ast.AnnAssign(target=target, value=value) if not in_class:
                if value is not None:
                    yield ast.Assign([target], value)
            case ast.ImportFrom(module=str(module)) if module in without:
                yield ast.Raise(ast.Name("ImportError", ast.Load()))
                return  # nothing after it runs
            case _:
                yield node


class _Scope:
    def __init__(self, bound: set[str], is_class: bool = False) -> None:
        self.bound, self.is_class = bound, is_class
        self.imported: dict[str, str] = {}  # names of this package that a function imports


class _Resolver(ast.NodeTransformer):
    """Gives every global of one module its name in the one namespace."""

    def __init__(self, linker: _Linker, module: _Module) -> None:
        self.linker, self.module, self.program = linker, module, linker.program
        self.scopes: list[_Scope] = []

    def run(self) -> None:
        for node in self.module.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                continue
            defines = tuple(sorted(self.module.names[name] for name in _bound([node])))
            if (made := self.visit(node)) is not None:
                self.program.items.append(Item(made, defines))

    def lookup(self, name: str) -> str | None:
        """What a name means here; None if it is local or a builtin."""
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.is_class and depth:
                continue
            if name in scope.imported:
                return scope.imported[name]
            if name in scope.bound:
                return None
        return self.module.names.get(name)

    def module_meant(self, node: ast.expr) -> str | None:
        """The module of this package that an expression is, if it is one."""
        if isinstance(node, ast.Name):
            found = self.lookup(node.id) or ""
            return found[1:] if found.startswith("@") else None
        if isinstance(node, ast.Attribute) and (of := self.module_meant(node.value)):
            return f"{of}.{node.attr}" if file_of(f"{of}.{node.attr}") else None
        return None

    def visit_Name(self, node: ast.Name) -> ast.Name:
        found = self.lookup(node.id)
        if found is not None and found.startswith("@"):
            raise BundleError(f"{self.module.name}: module {node.id} is used as a value")
        return node if found is None else ast.Name(found, node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if (module := self.module_meant(node.value)) is not None:
            return ast.Name(self.linker.symbol(module, node.attr), node.ctx)
        self.generic_visit(node)
        return node

    def visit_Global(self, node: ast.Global) -> ast.Global:
        return ast.Global([self.module.names[name] for name in node.names])

    def visit_Import(self, node: ast.Import) -> ast.stmt | None:
        return None if any(file_of(alias.name) for alias in node.names) else self._outside(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        return None if file_of(node.module or "") else self._outside(node)

    def _outside(self, node: ast.Import | ast.ImportFrom) -> ast.stmt:
        """An import of another package that is not at the top of a module: it stays where it is."""
        if not self.scopes:  # under an if or a try
            for alias in node.names:
                if "." in (bound := alias.asname or alias.name):
                    raise BundleError(
                        f"{self.module.name}: {bound} is imported under a condition without a name"
                    )
                alias.asname = self.module.names[bound]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        if not self.scopes:
            node.name = self.module.names[node.name]
        self._function(node.args, node.body)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        body: list[ast.stmt] = [ast.Expr(node.body)]
        self._function(node.args, body)
        assert isinstance(body[0], ast.Expr)
        node.body = body[0].value
        return node

    def _function(self, args: ast.arguments, body: list[ast.stmt]) -> None:
        args.defaults = [self.visit(d) for d in args.defaults]
        args.kw_defaults = [d and self.visit(d) for d in args.kw_defaults]
        scope = _Scope(_bound(body) | {a.arg for a in ast.walk(args) if isinstance(a, ast.arg)})
        for node in body:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom) and _imported(inner):
                    scope.imported |= self.linker.bound_by(inner)
        self.scopes.append(scope)
        body[:] = [made for node in body if (made := self.visit(node)) is not None] or [ast.Pass()]
        self.scopes.pop()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.expr:
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        self.scopes.append(_Scope(_bound([ast.Expr(g.target) for g in node.generators])))
        first.target, first.ifs = self.visit(first.target), [self.visit(test) for test in first.ifs]
        node.generators[1:] = [self.visit(g) for g in node.generators[1:]]
        if isinstance(node, ast.DictComp):
            node.key, node.value = self.visit(node.key), self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self.scopes.pop()
        return node

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.bases = [self.visit(base) for base in node.bases]
        node.keywords = [self.visit(k) for k in node.keywords]
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        if not self.scopes:
            node.name = self.module.names[node.name]
        self.scopes.append(_Scope(_bound(node.body), is_class=True))
        node.body = [made for child in node.body if (made := self.visit(child)) is not None]
        self.scopes.pop()
        return self._plain(node)

    def _plain(self, node: ast.ClassDef) -> ast.ClassDef:
        """A section without its schema; a class without annotations, unless they are its fields."""
        origins = {self._origin(base) for base in (*node.bases, *node.decorator_list)}
        is_section = f"{SCHEMA}.BaseModel" in origins or any(
            isinstance(base, ast.Name) and base.id in self.program.sections for base in node.bases
        )
        body: list[ast.stmt] = []
        settings: list[str] = []
        for child in node.body:
            match child:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Constant(value=0)) if is_section:
                    settings.append(name)
                case ast.AnnAssign() if origins & TYPED_BY_ANNOTATION:
                    body.append(child)
                case ast.AnnAssign(target=target, value=value):
                    body += [ast.Assign([target], value)] if value is not None else []
                case ast.FunctionDef(decorator_list=decorators) if any(
                    self._of_schema(d) for d in decorators
                ):
                    continue
                case _:
                    body.append(child)
        if is_section:
            inherited = [s for base in node.bases if isinstance(base, ast.Name)
                         for s in self.program.sections.get(base.id, ())]  # fmt: skip
            self.program.sections[node.name] = inherited + settings
        if any(isinstance(base, ast.Name) and self._is_error(base.id) for base in node.bases):
            self.program.errors.add(node.name)
            body = []  # it shows what it was given
        if f"{SCHEMA}.BaseModel" in origins:
            node.bases = []
            body = [b for b in body if not isinstance(b, ast.Assign)] + ast.parse(TAKES_SETTINGS).body
        node.body = body or [ast.Pass()]
        return node

    def _origin(self, node: ast.expr) -> str | None:
        """The dotted path of what a base or a decorator is, where another package defines it."""
        called = node.func if isinstance(node, ast.Call) else node
        return self.program.imports.get(called.id) if isinstance(called, ast.Name) else None

    def _is_error(self, name: str) -> bool:
        builtin = getattr(builtins, name, None)
        return name in self.program.errors or (
            isinstance(builtin, type) and issubclass(builtin, BaseException)
        )

    def _of_schema(self, decorator: ast.expr) -> bool:
        return (self._origin(decorator) or "").partition(".")[0] == SCHEMA


TAKES_SETTINGS = "def __init__(self,**settings):self.__dict__.update(settings)"
