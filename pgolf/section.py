"""A config section is a frozen value: parsed once at the edge, passed to the function that needs it.

Unknown keys are errors that name the nearest valid one, `but` re-validates, and `canonical` turns a
section into the text that is hashed. What cannot be written as plain JSON is refused rather than
stringified: a permissive `str(x)` would silently fork identities from one run to the next.
"""

import difflib
import hashlib
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer

S = TypeVar("S", bound="Section")  # typing.Self in a method is what the tests' type checker cannot read


@dataclass(frozen=True)
class Refusal:
    """Why a value was refused, in at most three lines: the rule, the value, the way out."""

    rule: str
    given: object = None
    remedy: str | None = None

    def lines(self) -> list[str]:
        out = [_one_line(self.rule, 300)]
        if self.given is not None:
            given = self.given if isinstance(self.given, str) else repr(self.given)
            out.append(f"  given: {_one_line(given, 200)}")
        if self.remedy is not None:
            out.append(f"  way out: {_one_line(self.remedy, 400)}")
        return out


class RuleBroken(ValueError):
    """Raised by a section's validator; survives pydantic with its three parts intact."""

    def __init__(self, rule: str, given: object = None, remedy: str | None = None) -> None:
        self.refusal = Refusal(rule, given, remedy)
        super().__init__(rule)


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy line naming the closest of `known`, and all of them where they are few.

    >>> nearest("lairs", ["layers", "width"])
    "did you mean 'layers'? known: layers, width"
    """
    names = sorted(map(str, known))
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'? " if close else ""
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"{hint}known: {shown}"


class Section(BaseModel):
    """Base of every config section: frozen, closed, comparable, hashable as canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def but(self: S, **changes: Any) -> S:
        """A copy with some fields changed, validated again (pydantic's model_copy does not)."""
        return type(self).model_validate({**dict(self), **changes})

    def held(self) -> "Iterator[Section]":
        """This section and every one below it."""
        yield self
        for name in type(self).model_fields:
            if isinstance(value := getattr(self, name), Section):
                yield from value.held()

    def plain(self) -> dict[str, Any]:
        """Plain JSON values that parse back to an equal section.

        Off leaves no trace: a field that is None and is None by default is left out, so that a new
        optional technique changes no old identity. None is kept where the default is something.
        """
        return self.model_dump(mode="json")

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {k: v for k, v in serialize(self).items() if v is not None or fields[k].default is not None}


def resolve(sections: Iterable[type[Section]], **names: Any) -> None:
    """Tell sections what a name in their annotations stands for that could not be imported where they are."""
    for section in sections:
        section.model_rebuild(_types_namespace=names)


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces. Raises on what JSON cannot say exactly.

    Raises:
        TypeError: for anything that is not dict, list, str, int, bool, None or a finite float.
    """
    _refuse_unhashable(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON value's canonical text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _refuse_unhashable(value: Any, at: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{at}: keys of an identity are strings, not {key!r}")
            _refuse_unhashable(item, f"{at}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_unhashable(item, f"{at}[{i}]")
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError(f"{at}: {value} has no identity")
    elif value is not None and type(value) not in (str, int, bool):
        raise TypeError(f"{at}: cannot hash a {type(value).__name__}; give its plain value")


# ---------------------------------------------------------------------------------------- parsing


def parse(cls: type[Section], data: Any) -> Refusal | Section:
    """Validate `data`; a refusal (its first error, explained) instead of pydantic's page of text."""
    if not isinstance(data, Mapping):
        return Refusal(
            f"a config is a mapping of {cls.__name__}'s settings", data, "write `key: value` lines"
        )
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        return _explain(cls, error)


def assign(data: dict[str, Any], assignment: str) -> dict[str, Any]:
    """Apply one `path.to.key=value` (value in YAML) to nested mappings; returns a new mapping.

    Raises:
        RuleBroken: if there is no '=', or a step of the path is not a mapping.
    """
    path, eq, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not eq or not all(keys):
        raise RuleBroken("--set takes path=value", assignment, "for example --set model.layers=4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RuleBroken(
            "the value of --set is YAML", assignment, "quote it: --set 'name=\"a: b\"'"
        ) from None
    return _assigned(data, keys, value, path.strip())


def _assigned(data: Any, keys: list[str], value: Any, path: str) -> dict[str, Any]:
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise RuleBroken(f"--set {path}: '{keys[0]}' lies under a plain value", data, "shorten the path")
    new = dict(data)
    new[keys[0]] = value if len(keys) == 1 else _assigned(data.get(keys[0]), keys[1:], value, path)
    return new


def _explain(cls: type[Section], error: ValidationError) -> Refusal:
    errors = error.errors(include_url=False)
    # an unknown key explains the "missing" errors beside it, so it goes first
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    loc, given = first["loc"], first["input"]
    where = ".".join(str(part) for part in _visible(cls, loc)) or cls.__name__
    if first["type"] == "extra_forbidden":
        name = str(loc[-1])
        remedy = nearest(name, _fields_at(cls, loc[:-1]))
        return Refusal(f"{where} is not a setting", f"{name}={given!r}", remedy)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, RuleBroken):
        return Refusal(f"{where}: {cause.refusal.rule}", cause.refusal.given, cause.refusal.remedy)
    rule = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] == "union_tag_invalid":
        remedy = f"kinds: {first['ctx']['expected_tags']}"
        return Refusal(f"{where}: no such kind", repr(first["ctx"]["tag"]), remedy)
    if first["type"] == "union_tag_not_found":
        kinds = _kinds(getattr(_field_at(cls, loc), "annotation", None))
        return Refusal(f"{where}: say which kind", given, f"add `kind: ...`; kinds: {', '.join(kinds)}")
    if first["type"] == "missing":
        return Refusal(f"{where} must be given", None, f"add --set {where}=... or the line to the file")
    return Refusal(f"{where}: {rule}", given, _remedy(cls, loc))


def _remedy(cls: type[Section], loc: tuple[Any, ...]) -> str:
    field = _field_at(cls, loc)
    if field is None:
        return "see the recipe's own value with `pgolf recipes --json`"
    default = (
        ""
        if field.is_required()
        else f"; the default is {_brief(field.get_default(call_default_factory=True))}"
    )
    kind = getattr(field.annotation, "__name__", str(field.annotation))
    limits = ", ".join(str(m) for m in field.metadata)
    return f"a value of type {kind}" + (f" with {limits}" if limits else "") + default


def _brief(value: Any) -> str:
    return repr(value.plain() if isinstance(value, Section) else value)


def _arms(annotation: Any) -> list[Any]:
    """The section classes an annotation admits."""
    if get_origin(annotation) is Annotated:
        return _arms(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [arm for part in get_args(annotation) for arm in _arms(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, Section) else []


def _walk(cls: type[Section], loc: tuple[Any, ...]) -> list[tuple[type[Section] | None, Any]]:
    """Per step of a pydantic location: (the class that the step lands in, the step or None for a tag)."""
    steps: list[tuple[type[Section] | None, Any]] = []
    here: type[Section] | None = cls
    choices: list[Any] = []
    for part in loc:
        tagged = [c for c in choices if len(choices) > 1 and part == c.model_fields["kind"].default]
        if tagged:
            here, choices = tagged[0], []
            steps.append((here, None))
            continue
        field = here.model_fields.get(str(part)) if here is not None else None
        choices = _arms(field.annotation) if field is not None else []
        here = choices[0] if choices else None
        steps.append((here, part))
    return steps


def _visible(cls: type[Section], loc: tuple[Any, ...]) -> list[Any]:
    return [part for _, part in _walk(cls, loc) if part is not None]


def _fields_at(cls: type[Section], loc: tuple[Any, ...]) -> list[str]:
    steps = _walk(cls, loc)
    here = steps[-1][0] if steps else cls
    return list(here.model_fields) if here is not None else []


def _field_at(cls: type[Section], loc: tuple[Any, ...]) -> Any:
    steps = _walk(cls, loc[:-1])
    here = steps[-1][0] if steps else cls
    return here.model_fields.get(str(loc[-1])) if here is not None and loc else None


def _kinds(annotation: Any) -> list[str]:
    """The kinds of the sections that a union of them offers."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        kind = annotation.model_fields.get("kind")
        return [] if kind is None else [str(kind.default)]
    return [kind for part in get_args(annotation) for kind in _kinds(part)]


def _one_line(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
