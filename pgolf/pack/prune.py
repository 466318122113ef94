"""What of a program its last statement can reach, and nothing else.

A class is made if code that is reached names it other than in a type test; a method is reached if its class is
made and code that is reached mentions its name (or Python, or a base of another package, calls it by itself).
An attribute that is only ever set to one of None, True and False, or to an object of the program, answers tests
of it; so does the type of what is never made. What such an answer makes unreachable goes in the next round,
until nothing more does.

Names decide, not types: an attribute is not taken for constant if anything else may have it, be it a tensor, a
module of torch or a name in a string. What is decided wrongly nevertheless ends in an error at the latest when
the network is loaded, never in another score.
"""

import ast
import pydoc
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from pgolf.pack.program import BLOCKS, TYPED_BY_ANNOTATION, BundleError, Item, Program

LOOKED_AT = {"isinstance", "issubclass"}
UNREAD = {
    "ROLES",
    "roles",
    "initialize",
}  # for optimizers, quantizers and initialization: making them has no effect
STRANGERS = (
    torch.Tensor,
    torch.nn.Module,
    torch.Generator,
    torch.device,
    np.ndarray,
    Path,
    str,
    list,
    dict,
    int,
    float,
)


@cache
def strange_attributes() -> frozenset[str]:
    """Attributes that objects of other packages have: an attribute of this name may be theirs."""
    return frozenset(name for kind in STRANGERS for name in dir(kind))


def pruned(program: Program, last: ast.stmt) -> list[ast.stmt]:
    """The statements that are left, `last` among them, changed in place."""
    program.items.append(Item(last, ()))
    before = ""
    while True:
        reach = _Reach(program, last)
        program.items = [item for item in program.items if reach.keeps(item)]
        for item in program.items:
            _Drop(reach).visit(item.node)
        fold = _Fold(program, reach)
        for item in program.items:
            fold.visit(item.node)
            _tidy(item.node)
        now = "\n".join(ast.dump(item.node) for item in program.items)
        if now == before:
            break
        before = now
    for item in program.items:
        _check(item.node, program, reach)
    return [item.node for item in program.items]


def _check(statement: ast.stmt, program: Program, reach: "_Reach") -> None:
    """Raises BundleError where a section is made without a setting that is read: defaults are left behind."""
    for node in ast.walk(statement):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in program.sections
        ):
            given = {k.arg for k in node.keywords}
            if missing := [name for name in program.sections[node.func.id] if name in reach.read - given]:
                raise BundleError(f"a bundled {node.func.id} is made without {missing}")


class _Reach:
    """What one round reaches from the last statement."""

    def __init__(self, program: Program, last: ast.stmt) -> None:
        self.program = program
        self.defined = {name: item for item in program.items for name in item.defines}
        self.classes = {i.node.name: i.node for i in program.items if isinstance(i.node, ast.ClassDef)}
        self.kin = self._kin()
        self.live: set[str] = set()  # names of the program
        self.made: set[str] = set()  # classes that have objects, or whose subclasses have
        self.read: set[str] = set()  # attributes read, and strings that may name one
        self.mentions: dict[str, set[str | None]] = defaultdict(set)  # the same: of objects of which class
        self.waiting: dict[str, list[tuple[str, ast.stmt]]] = defaultdict(
            list
        )  # members of made classes, by name
        self.kept: set[int] = set()  # such members, by identity
        self.todo: list[tuple[ast.AST, str | None]] = []  # what to scan, the class it is a method of
        self._keep(last, None)
        acting = [(item, wanted) for item in program.items if (wanted := self._acts(item)) is not None]
        while self.todo:
            while self.todo:
                self._scan(*self.todo.pop())
            for item, wanted in acting:
                if (not wanted or wanted & self.live) and id(item.node) not in self.kept:
                    self._keep(item.node, None)

    def _kin(self) -> dict[str, set[str]]:
        """For every class those that share an object with it: what `self` may be in its methods."""
        kin: dict[str, set[str]] = {name: set() for name in self.classes}
        for name in self.classes:
            line, todo = {name}, [name]
            while todo:
                bases = [b.id for b in self.classes[todo.pop()].bases if isinstance(b, ast.Name)]
                todo += [b for b in bases if b in self.classes and b not in line]
                line.update(b for b in bases if b in self.classes)
            for member in line:
                kin[member] |= line
        return kin

    def _acts(self, item: Item) -> set[str] | None:
        """Of a statement that is there for its effect: what it may have one on; None if it only defines.

        That are names in a call or a decorator, and in the functions that these lead to.
        """
        match item.node:
            case ast.FunctionDef(decorator_list=causes) | ast.ClassDef(decorator_list=causes):
                return self._touched(causes) or None
            case ast.Expr(value=ast.Call() as call):
                return self._touched([call])
        return None if item.defines else set()

    def _touched(self, causes: list[ast.expr]) -> set[str]:
        found: set[str] = set()
        todo: list[ast.AST] = list(causes)
        while todo:
            names = {node.id for node in ast.walk(todo.pop()) if isinstance(node, ast.Name)}
            new = (names & self.defined.keys()) - found
            todo += [
                self.defined[name].node
                for name in new
                if isinstance(self.defined[name].node, ast.FunctionDef)
            ]
            found |= new
        return found

    def keeps(self, item: Item) -> bool:
        return id(item.node) in self.kept or any(name in self.live for name in item.defines)

    def _scan(self, node: ast.AST, owner: str | None) -> None:
        match node:
            case ast.Call(func=ast.Name(id=name), args=[subject, kinds]) if name in LOOKED_AT:
                self.todo.append((subject, owner))
                self._look(kinds)
                return
            case ast.ExceptHandler(type=ast.expr() as kinds, body=body):
                self._look(kinds)
                self.todo += [(child, owner) for child in body]
                return
            case ast.MatchClass(cls=kinds, kwd_attrs=names):
                self._look(kinds)
                for name in names:
                    self._mention(name, None)
                self.todo += [(child, owner) for child in (*node.patterns, *node.kwd_patterns)]
                return
            case ast.Name(id=name, ctx=ast.Load()):
                self._name(name, made=True)
            case ast.Attribute(attr=name, ctx=ast.Load(), value=of):
                self._mention(name, self._class_of(of, owner))
            case ast.AugAssign(target=ast.Attribute(attr=name)):
                self._mention(name, None)
            case ast.Constant(value=str(text)) if text.isidentifier():
                self._mention(text, None)
        self.todo += [(child, owner) for child in ast.iter_child_nodes(node)]

    def _class_of(self, node: ast.expr, owner: str | None) -> str | None:
        """The class that an attribute is asked of, where it is plain to see."""
        if isinstance(node, ast.Name):
            return owner if node.id in ("self", "cls") else node.id if node.id in self.classes else None
        return None

    def _look(self, kinds: ast.AST) -> None:
        """A type test asks for a class and makes nothing."""
        for node in ast.walk(kinds):
            if isinstance(node, ast.Name):
                self._name(node.id, made=False)

    def _mention(self, name: str, of: str | None) -> None:
        self.read.add(name)
        if of in self.mentions[name]:
            return
        self.mentions[name].add(of)
        for owner, member in self.waiting[name]:
            if self._called(owner, member):
                self._keep(member, owner)

    def _called(self, owner: str, member: ast.stmt) -> bool:
        """Whether a mention of a member's name may mean this one."""
        bound = isinstance(member, ast.FunctionDef) and any(
            isinstance(d, ast.Name) and d.id in ("staticmethod", "classmethod") for d in member.decorator_list
        )
        mentions = self.mentions[_member(member) or ""]
        return any(not bound if of is None else of in self.kin[owner] for of in mentions)

    def _keep(self, member: ast.stmt, owner: str | None) -> None:
        if id(member) not in self.kept:
            self.kept.add(id(member))
            self.todo.append((member, owner))

    def _name(self, name: str, made: bool) -> None:
        if name not in self.defined:
            return
        if name not in self.live:
            self.live.add(name)
            if name in self.classes:
                node = self.classes[name]
                self.todo += [(part, None) for part in (*node.decorator_list, *node.keywords)]
                for base in node.bases:
                    self._look(base)
            else:
                self.todo += [(item.node, None) for item in self.program.items if name in item.defines]
        if made and name in self.classes and name not in self.made:
            self.made.add(name)
            for base in self.classes[name].bases:
                if isinstance(base, ast.Name):
                    self._name(base.id, made=True)
            foreign, whole = self._foreign(name)
            for member in self.classes[name].body:
                own = _member(member)
                of_table = whole and not isinstance(member, ast.FunctionDef)
                if own is None or of_table or own in foreign or own.startswith("__"):
                    self._keep(member, name)
                else:
                    self.waiting[own].append((name, member))
                    if self._called(name, member):
                        self._keep(member, name)

    def _foreign(self, name: str) -> tuple[set[str], bool]:
        """What the bases of other packages define, and whether the class is a table of its members."""
        found: set[str] = set()
        node = self.classes[name]
        whole = any(self.path(d) in TYPED_BY_ANNOTATION for d in node.decorator_list)
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in self.classes:
                more, tabular = self._foreign(base.id)
                found, whole = found | more, whole or tabular
            elif (path := self.path(base)) is not None:
                found |= set(dir(pydoc.locate(path)))
                whole = whole or path in TYPED_BY_ANNOTATION or path.startswith("enum.")
        return found, whole

    def path(self, node: ast.expr) -> str | None:
        """The dotted path of what an expression stands for, where another package defines it."""
        if isinstance(node, ast.Call):
            return self.path(node.func)
        if isinstance(node, ast.Attribute) and (of := self.path(node.value)):
            return f"{of}.{node.attr}"
        return self.program.imports.get(node.id) if isinstance(node, ast.Name) else None


def _member(node: ast.stmt) -> str | None:
    """The name of a method or of a class's attribute."""
    match node:
        case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


class _Drop(ast.NodeTransformer):
    """Drops what is not reached of classes, and what is stored where nobody reads it."""

    def __init__(self, reach: _Reach) -> None:
        self.reach, self.program = reach, reach.program
        self.methods = {
            _member(m) for c in reach.classes.values() for m in c.body if isinstance(m, ast.FunctionDef)
        }
        self.locals: list[set[str]] = []  # of the functions around: the names that are read

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        if node.name in self.reach.classes:
            made = node.name in self.reach.made
            node.body = [m for m in node.body if made and id(m) in self.reach.kept] or [ast.Pass()]
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        read = set()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Store):
                read.add(inner.id)
            elif isinstance(inner, ast.Global | ast.Nonlocal):
                read.update(inner.names)
        self.locals.append(read)
        self.generic_visit(node)
        self.locals.pop()
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Settings that nobody reads go; so does an error's advice, which is for users of pgolf."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.program.sections:
            node.keywords = [k for k in node.keywords if k.arg in self.reach.read]
        if isinstance(node.func, ast.Name) and node.func.id in self.program.errors:
            node.args, node.keywords = node.args[:2], []
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        self.generic_visit(node)
        pairs = _pairs(node)
        kept = [(target, value) for target, value in pairs if not self._unread(target, value)]
        if len(kept) == len(pairs):
            return node
        if not kept:
            return ast.Pass()
        if len(kept) == 1:
            return ast.copy_location(ast.Assign([kept[0][0]], kept[0][1]), node)
        targets, values = zip(*kept, strict=True)
        node.targets = [ast.Tuple(list(targets), ast.Store())]
        node.value = ast.Tuple(list(values), ast.Load())
        return node

    def _unread(self, target: ast.expr, value: ast.expr) -> bool:
        match target:
            case ast.Attribute(attr=name) if name in UNREAD:
                return name not in self.reach.read
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return name not in self.reach.read | self.methods and _pure(value)
            case ast.Name(id=name) if self.locals:
                return name not in self.locals[-1] and _pure(value)
        return False


def _pairs(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    """(target, value) of every assignment of one statement, as far as they can be told apart."""
    if (
        len(node.targets) == 1
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
    ):
        targets, values = node.targets[0].elts, node.value.elts
        if len(targets) == len(values) and not any(isinstance(e, ast.Starred) for e in [*targets, *values]):
            return list(zip(targets, values, strict=True))
    return [(target, node.value) for target in node.targets]


def _pure(node: ast.expr) -> bool:
    """Whether leaving an expression out changes nothing."""
    plain = (
        ast.Name, ast.Constant, ast.Attribute, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.List,
        ast.Dict, ast.Set, ast.IfExp, ast.Lambda, ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop,
        ast.Subscript, ast.arguments, ast.arg,
    )  # fmt: skip
    return all(isinstance(n, plain) or _harmless(n) for n in ast.walk(node))


def _harmless(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in (
        "isinstance",
        "len",
        "int",
        "float",
        "round",
        "min",
        "max",
    )


TRUE = object()  # an object of the program: not None, and true


class _Fold(ast.NodeTransformer):
    """Answers what is known before it is asked, and drops what then is not reached."""

    def __init__(self, program: Program, reach: _Reach) -> None:
        self.program, self.reach = program, reach
        self.known: dict[str, object] = {}
        self.known = self._constants()

    # ------------------------------------------------------------------ attributes that are constants

    def _constants(self) -> dict[str, object]:
        """Of the attributes that only have one value: that value, supposed for all and held against every store."""
        stored: dict[str, list[ast.expr]] = defaultdict(list)
        barred = set(strange_attributes())
        for node in (inner for item in self.program.items for inner in ast.walk(item.node)):
            match node:
                case ast.Constant(value=str(text)):
                    barred.update(_words(text))
                case ast.Call(func=ast.Name(id="setattr"), args=[_, name, *_]) if not isinstance(
                    name, ast.Constant
                ):
                    return {}
                case ast.Call(func=ast.Name(id=name), keywords=keywords) if name in self.program.sections:
                    for keyword in keywords:
                        if keyword.arg is None:
                            return {}
                        stored[keyword.arg].append(keyword.value)
                case ast.Assign():
                    for target, value in _pairs(node):
                        if isinstance(target, ast.Attribute):
                            stored[target.attr].append(value)
                        else:
                            barred.update(_attributes(target))
                case (
                    ast.AugAssign(target=target) | ast.For(target=target) | ast.comprehension(target=target)
                    | ast.withitem(optional_vars=ast.expr() as target)
                ):  # fmt: skip
                    barred.update(_attributes(target))
                case ast.ClassDef(body=members):
                    for member in members:
                        match member:
                            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                                stored[name].append(value)
                            case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                                barred.add(name)
        self.known = {name: next((v for e in of if (v := self._value(e)) is not ...), ...)
                      for name, of in stored.items() if name not in barred}  # fmt: skip
        while wrong := [
            name
            for name, v in self.known.items()
            if v is ... or any(self._value(e) is not v for e in stored[name])
        ]:
            for name in wrong:
                del self.known[name]
        return self.known

    def _value(self, node: ast.expr) -> object:
        """None, True, False, TRUE, or ... for what is not known."""
        match node:
            case ast.Constant(value=None | True | False as value):
                return value
            case ast.Call(func=ast.Name(id=name)) if name in self.reach.classes and not self._sized(name):
                return TRUE
            case ast.Attribute():
                return self._known(node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                answer = self._known(test)
                return ... if answer is ... else self._value(body if answer else orelse)
        return ...

    def _sized(self, name: str) -> bool:
        """Whether an object's truth may be its length or its own answer."""
        if name in self.program.sections:
            return False
        node = self.reach.classes[name]
        bases = [
            base.id for base in node.bases if isinstance(base, ast.Name) and base.id in self.reach.classes
        ]
        foreign = [self.reach.path(base) for base in node.bases]
        own = any(_member(m) in ("__len__", "__bool__") for m in node.body)
        return (
            own
            or len(bases) < len([f for f in foreign if f != "torch.nn.Module"])
            or any(map(self._sized, bases))
        )

    # -------------------------------------------------------------------------------------- expressions

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or self.reach.path(node.value) or not _pure(node.value):
            return node
        value = self.known.get(node.attr, ...)
        return ast.Constant(value) if value is None or isinstance(value, bool) else node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Compare(
                left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(value=None)]
            ):
                value = self._known(left)
                if value is not ...:
                    return ast.Constant((value is None) == isinstance(op, ast.Is))
            case ast.Compare(left=ast.Constant(value=a), ops=[ast.Eq()], comparators=[ast.Constant(value=b)]):
                return ast.Constant(a == b)
        return node

    def _known(self, node: ast.expr) -> object:
        """The value of an expression that can be left out, if it is known; ... if not."""
        if isinstance(node, ast.Constant):
            return (
                node.value
                if node.value is None or isinstance(node.value, bool)
                else TRUE
                if node.value
                else False
            )
        if isinstance(node, ast.Attribute) and _pure(node.value) and not self.reach.path(node.value):
            return self.known.get(node.attr, ...)
        return ...

    def _test(self, node: ast.expr) -> bool | None:
        value = self._known(node)
        return None if value is ... else bool(value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and (value := self._test(node.operand)) is not None:
            return ast.Constant(not value)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        """`a and b` is b where a is true, and a where it is false; later operands then do not count."""
        self.generic_visit(node)
        is_and = isinstance(node.op, ast.And)
        values: list[ast.expr] = []
        for i, operand in enumerate(node.values):
            known = self._test(operand)
            if known is None or (known is not is_and) or i == len(node.values) - 1:
                values.append(operand)
            if known is not None and known is not is_and:
                break
        if len(values) == 1:
            return values[0]
        node.values = values
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        known = self._test(node.test)
        return node if known is None else node.body if known else node.orelse

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="isinstance"), args=[subject, kinds]) if _pure(subject):
                asked = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
                if all(
                    isinstance(k, ast.Name) and k.id in self.reach.classes and k.id not in self.reach.made
                    for k in asked
                ):
                    return ast.Constant(False)
            case ast.Call(func=ast.Name() as func, args=[_, value]) if self.reach.path(func) == "typing.cast":
                return value
        return node

    # --------------------------------------------------------------------------------------- statements

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        yields = _yields(node)
        self.generic_visit(node)
        if yields and not _yields(node):
            raise BundleError(f"{node.name} no longer is a generator once what is not reached goes")
        return node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt] | None:
        self.generic_visit(node)
        if (known := self._test(node.test)) is not None:
            return node.body if known else node.orelse
        if _empty(node.body) and _empty(node.orelse) and _pure(node.test):
            return None
        return node


def _yields(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Yield | ast.YieldFrom) for n in ast.walk(node))


def _empty(block: list[ast.stmt]) -> bool:
    return all(isinstance(node, ast.Pass) for node in block)


def _tidy(statement: ast.stmt) -> None:
    """Leaves out what has become empty, and what follows the end of its block."""
    for node in ast.walk(statement):
        for name in BLOCKS:
            if (block := getattr(node, name, None)) and isinstance(block, list):
                block[:] = list(_reached(block)) or ([ast.Pass()] if name == "body" else [])


def _reached(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """A block without what is empty, and up to where it is left."""
    for node in block:
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and _pure(node.value)):
            continue
        yield node
        if isinstance(node, ast.Return | ast.Raise | ast.Continue | ast.Break):
            return


def _attributes(target: ast.expr) -> Iterator[str]:
    return (node.attr for node in ast.walk(target) if isinstance(node, ast.Attribute))


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
