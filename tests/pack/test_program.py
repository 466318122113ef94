"""Modules in one namespace, pruned and minified, do what they did apart: cases that a careless bundler gets wrong.

Every case is a package `toy` whose `entry.main()` is called as Python imports it and as the bundler writes it.
"""

import ast
import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import python_minifier

from pgolf.pack import bundle as bundling
from pgolf.pack import program as programs
from pgolf.pack.program import BundleError, program_of
from pgolf.pack.prune import pruned

SECTION = {"base": """
    from pydantic import BaseModel, field_validator
    class Section(BaseModel):
        def but(self, **changes):
            return self.model_copy(update=changes)
"""}  # fmt: skip

SAME = {
    "equal names in two modules": {
        "a": "EPS = 1\ndef f(x): return x + EPS",
        "b": "EPS = 2\ndef f(x): return x * EPS",
        "entry": "from toy import a\nfrom toy.b import f as g\ndef main(): return a.f(10), g(10), a.EPS",
    },
    "locals named like another module's globals": {
        "a": "def f(x): return x + 1\nvalue = 5",
        "entry": """
            from toy.a import f, value as other
            def main():
                value = f(1)
                f2 = [f(value) for value in range(3)]
                return value, f2, other, (lambda f: f + 1)(1)
        """,
    },
    "a name is the module's outside a comprehension and the comprehension's inside": {
        "entry": """
            rows = [[1, 2], [3]]
            def main():
                return [row for rows in rows for row in rows], {x: y for x, y in zip("ab", rows)}
            x = 7
        """,
    },
    "class bodies do not lend their names to methods": {
        "entry": """
            size = 1
            class C:
                size = 2
                twice = size * 2
                def get(self): return size, self.size, self.twice
            def main(): return C().get()
        """,
    },
    "nested scopes, nonlocal and global": {
        "entry": """
            count = 0
            def bump():
                global count
                count += 1
                return count
            def main():
                seen = []
                n = 0
                def inner(k):
                    nonlocal n
                    n += k
                    seen.append((n, bump()))
                for k in (1, 2): inner(k)
                return seen, n, count
        """,
    },
    "imports inside functions, aliases, submodules and names passed on": {
        "sub/__init__": "from toy.sub.deep import one as one",
        "sub/deep": "def one(): return 1\ndef two(): return 2",
        "late": "def three(): return 3\nVALUE = [4]",
        "entry": """
            import toy.sub.deep as d
            import os.path
            from toy.sub import one
            from collections import OrderedDict as dict_
            def main():
                from toy.late import VALUE, three as t
                import math
                return one(), d.two(), t(), VALUE, math.floor(2.5), os.path.join("a", "b"), list(dict_(a=1))
        """,
    },
    "walrus, match, star arguments, defaults by name": {
        "entry": """
            LIMIT = 3
            def f(a, /, b=LIMIT, *rest, c=LIMIT + 1, **more): return a, b, rest, c, more
            def kind(x):
                match x:
                    case {"a": value, **others}: return value, others
                    case [first, *tail]: return first, tail
                    case str() as text: return text
                    case _: return None
            def main():
                if (n := len("abc")) > 2: pass
                return f(1), f(1, 2, 3, c=4, d=5), n, kind({"a": 1, "b": 2}), kind([1, 2]), kind("x"), kind(0)
        """,
    },
    "parameters passed by name keep their names": {
        "entry": """
            def f(alpha, beta=2): return alpha, beta
            def g(gamma, delta=2): return gamma, delta
            def main(): return f(beta=1, alpha=3), g(1, 2), g(**{"gamma": 5})
        """,
    },
    "attributes by a string": {
        "entry": """
            class C:
                quiet = None
                def run(self): return 1
                def __init__(self): setattr(self, "loud", None); self.loud = None
            def main():
                c = C()
                setattr(c, "quiet", 5)
                return getattr(c, "run")(), c.quiet is None, c.loud is None
        """,
    },
    "attributes set under a name made at run time": {
        "entry": """
            class C:
                def __init__(self):
                    self.one = None
                    for name in ("on", "e"): pass
                    setattr(self, "on" + name, 5)
            def main():
                c = C()
                return c.one is None
        """,
    },
    "fields that a constructor sets, and properties, of a constant's name": {
        "entry": """
            from dataclasses import dataclass
            from typing import NamedTuple
            @dataclass
            class D:
                first: int | None = None
            class T(NamedTuple):
                second: int | None = None
            class P:
                @property
                def third(self): return 3
            class C:
                def __init__(self): self.first = self.second = self.third = None
            def main():
                c, d, t, p = C(), D(1), T(2), P()
                return c.first is None, d.first is None, c.second, t.second is None, c.third is None, p.third is None
        """,
    },
    "constants of a class, of its subclass, and of another": {
        "entry": """
            class A:
                flag = False
                def get(self): return "on" if self.flag else "off"
            class B(A):
                flag = True
            class Other:
                def __init__(self): self.state = None
            class Late:
                def __init__(self): self.state = None
                def wake(self): self.state = 1
            def main():
                late, other = Late(), Other()
                late.wake()
                return A().get(), B().get(), other.state is None, late.state is None
        """,
    },
    "attributes changed by loops, additions and with": {
        "entry": """
            from contextlib import nullcontext
            class C:
                def __init__(self): self.i = None; self.n = False; self.w = None; self.p = None; self.unread = 0
            def main():
                c = C()
                c.unread += 1
                for c.i in range(3): pass
                c.n += 2
                with nullcontext(4) as c.w: pass
                c.p, _ = (6, 7)
                return c.i is None, not c.n, c.w is None, c.p is None
        """,
    },
    "attributes that tensors have": {
        "entry": """
            import torch
            class C:
                def __init__(self): self.grad = None; self.is_leaf = False
            def main():
                c, t = C(), torch.ones(1, requires_grad=True)
                (2 * t).sum().backward()
                return c.grad is None, t.grad is None, t.is_leaf, t.grad.tolist()
        """,
    },
    "attributes of command lines": {
        "entry": """
            import argparse
            class C:
                def __init__(self): self.dry_run = False; self.level = None
            def main():
                parser = argparse.ArgumentParser()
                parser.add_argument("--level", type=int)
                a, c = parser.parse_args(["--level", "3"]), C()
                return c.level is None, a.level is None
        """,
    },
    "values of and, or, not and conditions": {
        "entry": """
            class Thing:
                def __init__(self): self.none, self.no, self.yes, self.held = None, False, True, Held()
            class Held: pass
            class Sized:
                def __len__(self): return 0
            class Box:
                def __init__(self): self.empty = Sized()
            def main():
                t, b = Thing(), Box()
                a = (t.none or 5, t.no and 5, t.yes and 6, t.none and t.no or 7, not t.none, t.yes or 8, t.no or t.none)
                return a, (1 if t.held else 2), (1 if b.empty else 2), t.held is None, b.empty is None, not b.empty
        """,
    },
    "types that nothing makes, and types made in many ways": {
        "entry": """
            class Never: pass
            class Made: pass
            class Child(Made): pass
            class ByName: pass
            def main():
                kinds = {"x": ByName}
                x = Child()
                return (isinstance(x, Never), isinstance(x, (Never, Made)), isinstance(x, Made),
                        isinstance(kinds["x"](), ByName), isinstance(3, Never) or isinstance(3, int))
        """,
    },
    "methods that only Python, a base or a string calls": {
        "entry": """
            import enum
            from typing import NamedTuple
            from dataclasses import dataclass, field
            class E(enum.StrEnum):
                ONE = "one"
                TWO = "two"
                @property
                def short(self): return self.value[:1]
            class T(NamedTuple):
                a: int
                b: str = "b"
            @dataclass(frozen=True)
            class D:
                x: int
                y: list = field(default_factory=list)
                z: int = 3
            class Keys(dict):
                def __missing__(self, key): return key * 2
                def keys(self): return ["own"]
            class Static:
                @staticmethod
                def make(): return 9
                @classmethod
                def built(cls): return cls.make()
            def main():
                plain = [e.value for e in E], E("one").short, tuple(T(1)), D(1) == D(1), D(1).z
                return plain, Keys()["a"], list(Keys().keys()), Static.built()
        """,
    },
    "torch calls forward, and modules register what is set": {
        "entry": """
            import torch
            from torch import nn
            class Inner(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.w = nn.Parameter(torch.ones(2))
                    self.unused = nn.Parameter(torch.zeros(3))
                def forward(self, x): return x * self.w
            class Outer(nn.Module):
                def __init__(self, inner):
                    super().__init__()
                    self.inner, self.note = inner, 3
                    self.late = None
                def forward(self, x): return self.inner(x) if self.late is None else x
            def main():
                net = Outer(Inner())
                return sorted(net.state_dict()), net(torch.ones(2)).tolist()
        """,
    },
    "statements for their effect, registrations, tables filled below": {
        "registry": """
            TABLE = {}
            def register(f):
                TABLE[f.__kind__ if hasattr(f, "__kind__") else f(0)] = f
                return f
        """,
        "entry": """
            from toy.registry import TABLE, register
            NAMES = []
            NAMES.append("x")
            @register
            def one(x): return x + 1
            @register
            def two(x): return x + 2
            if len(NAMES) > 0:
                MODE = "full"
            else:
                MODE = "empty"
            try:
                import json as parser
            except ImportError:
                parser = None
            def main(): return {k: f(1) for k, f in TABLE.items()}, NAMES, MODE, parser.dumps([1])
        """,
    },
    "errors are caught as what they are, and say what they were given": {
        "entry": """
            class Root(Exception): pass
            class Bad(Root, ValueError):
                def __init__(self, rule, given=None, remedy=None):
                    super().__init__(rule)
            def fail(): raise Bad("rule", 3, remedy="none")
            def main():
                out = []
                for kind in (Root, ValueError):
                    try: fail()
                    except kind as error: out.append((isinstance(error, Bad), error.args[0]))
                return out
        """,
    },
    "generators and code after the end of a block": {
        "entry": """
            def numbers(n):
                for i in range(n):
                    if i == 2: return
                    yield i
                    continue
                    yield -1
            def main():
                try: return list(numbers(5))
                finally: numbers(0)
        """,
    },
    "sections are what they were given": SECTION | {
        "entry": """
            from pydantic import Field, field_validator, model_validator
            from toy.base import Section
            class Inner(Section):
                kind: str = "inner"
                size: int = Field(3, ge=1)
                def twice(self): return 2 * self.size
            class Outer(Section):
                inner: Inner = Inner()
                other: Inner | None = None
                on: bool = False
                @field_validator("on")
                @classmethod
                def _check(cls, on): return on
                @property
                def total(self): return self.inner.twice() + (self.other.twice() if self.other else 0)
            def main():
                return Outer(inner=Inner(size=4, kind="a"), other=None, on=True).total
        """,
    },
}  # fmt: skip


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes a package `toy` and lets both Python and the bundler find it."""
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    monkeypatch.setattr(programs, "PACKAGE", "toy")
    monkeypatch.syspath_prepend(str(tmp_path))
    programs._linked.cache_clear()

    def write(files: dict[str, str]) -> Path:
        for name, text in {"__init__": "", **files}.items():
            file = tmp_path / "toy" / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text))
        importlib.invalidate_caches()
        return tmp_path

    yield write
    programs._linked.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[name]


def bundled(without: tuple[str, ...] = ()) -> str:
    program = program_of("toy.entry", without)
    call = ast.Call(ast.Name(program.names["toy.entry", "main"], ast.Load()), [], [])
    body = pruned(program, ast.Assign([ast.Name("RESULT", ast.Store())], call))
    bundling._allow_other_names(body)
    module = ast.Module(bundling._imports(program, body) + body, [])
    text = ast.unparse(ast.fix_missing_locations(module))
    return python_minifier.minify(
        text, rename_globals=True, preserve_globals=["RESULT"], remove_annotations=False
    )


def result_of(text: str) -> object:
    space: dict[str, object] = {"__name__": "__main__"}
    exec(compile(text, "<bundle>", "exec"), space)
    return space["RESULT"]


@pytest.mark.parametrize("case", SAME)
def test_it_does_what_the_modules_do(case, toy):
    toy(SAME[case])
    expected = importlib.import_module("toy.entry").main()
    text = bundled()
    assert repr(result_of(text)) == repr(expected), text


def test_what_nothing_reaches_is_left_out(toy):
    toy({
        "unused": "def never(): return 'unreached_module'",
        "entry": """
            '''A docstring.'''
            from toy.unused import never
            TABLE = {"dead": 'unreached_table'}
            class A:
                def used(self): return 1
                def idle(self): return 'unreached_method'
            def idle_too(): return never(), TABLE
            class Bad(ValueError):
                def __init__(self, rule, given, remedy): super().__init__('unreached_error')
            def main():
                '''Another.'''
                a: int = A().used()
                if a > 1: raise Bad("rule", a, 'unreached_remedy')
                assert a, 'unreached_assertion'
                return a
        """,
    })  # fmt: skip
    text = bundled()
    assert result_of(text) == 1
    for word in ("unreached", "docstring", "Another", "idle", "never"):
        assert word not in text


def test_what_is_off_goes_with_all_that_it_needs(toy):
    toy(SECTION | {
        "extra": """
            from torch import nn
            class Extra(nn.Module):
                def forward(self, x): return x + 'unreached'
        """,
        "entry": """
            from toy.base import Section
            from toy.extra import Extra
            class Feature(Section):
                def build(self): return Extra()
            class Config(Section):
                feature: Feature | None = None
                size: int = 1
            class Net:
                def __init__(self, config):
                    self.feature = config.feature.build() if config.feature else None
                    self.size = config.size
                def run(self, x):
                    if self.feature is not None:
                        x = self.feature(x)
                    return x + self.size
            def main(): return Net(Config(feature=None, size=2)).run(1)
        """,
    })  # fmt: skip
    text = bundled()
    assert result_of(text) == 3
    for word in ("unreached", "feature", "Module", "torch"):
        assert word not in text


def test_a_module_left_out_is_an_error_where_it_is_asked_for_and_only_there(toy):
    toy({
        "heavy": "def run(): return 'unreached'",
        "entry": """
            def load(kind):
                if kind == "heavy":
                    from toy.heavy import run
                    return run()
                return kind
            def main():
                try: return load("light"), load("heavy")
                except ImportError: return load("light"), None
        """,
    })  # fmt: skip
    assert result_of(bundled()) == ("light", "unreached")
    text = bundled(without=("toy.heavy",))
    assert result_of(text) == ("light", None)
    assert "unreached" not in text


@pytest.mark.parametrize(("files", "why"), [
    ({"a": "x = 1", "entry": "from toy import a\ndef main(): return [a]"}, "module a is used as a value"),
    ({"entry": "import yaml\ndef main(): return yaml.dump(1)"}, "needs yaml, which is not installed"),
    ({"a": "", "entry": "from toy.a import x\ndef main(): return x"}, "toy.a defines no x"),
    (SECTION | {"entry": "from toy.base import Section\nclass S(Section):\n    size: int = 3\n"
                         "def main(): return S().size"}, "made without .'size'."),
    ({"entry": "class C:\n    def __init__(self): self.on = None\n    def items(self):\n"
               "        if self.on is not None: yield 1\ndef main(): return list(C().items())"},
     "no longer is a generator"),
])  # fmt: skip
def test_what_cannot_be_bundled_is_an_error_when_it_is_tried(files, why, toy):
    toy(files)
    with pytest.raises(BundleError, match=why):
        bundled()
