"""What callers from Python meet: wrong arguments by name, and messages that name arguments instead of options."""

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from pairscore.runtime.errors import PairscoreError

P = ParamSpec("P")
T = TypeVar("T")

# An option and the word behind it; what a message quotes, and commands for a shell, match without a name.
_OPTION = re.compile(
    r"`(?:pip|pairscore) [^`]*`|(?<!\w)'[^']*'|(?<!\w)\"[^\"]*\"|"
    r"(?<![\w-])--(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?: (?P<value>\w[\w-]*))?"
)


_FROM_COMMAND = ContextVar("_FROM_COMMAND", default=False)
# What a parameter is declared as -> the type that its value has to have, and what a message calls it.
_KINDS: dict[Any, tuple[Any, str]] = {
    NoneType: (NoneType, "None"),
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
    Path: (os.PathLike, "a path"),
    Sequence: (Iterable, "a list"),
    Callable: (Callable, "a function"),
}


class ArgumentError(PairscoreError, TypeError):
    """A keyword that a function does not have, or a value of another type: Python's TypeError, with a remedy."""


def python_call(**least: float) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a public function refuse unknown keywords and wrong values, and name its arguments in errors.

    least: the smallest number that an argument may be.
    """

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        kinds, signature = argument_types(function), inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: P.args, **keywords: P.kwargs) -> T:
            check_keywords(function.__name__, keywords, kinds)
            try:
                given = signature.bind(*arguments, **keywords).arguments
            except TypeError as error:
                raise ArgumentError(f"{function.__name__}: {error}; it takes {', '.join(kinds)}") from None
            for name, value in given.items():
                if signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                    check_value(name, value, kinds[name], least.get(name))
            for name, value in keywords.items():
                if kinds[name] is bool:  # of those behind `**`, whose other types the function checks
                    check_value(name, value, bool)
            with python_names(kinds):
                return function(*arguments, **keywords)

        return call

    return decorated


def check_value(name: str, value: Any, kind: Any, least: float | None = None) -> None:
    """Raise ArgumentError for an argument whose value is of none of the types that it may have, or too small."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if not any(_fits(each, value) for each in kinds):
        wanted = " or ".join(dict.fromkeys(_words(each) for each in kinds))
        raise ArgumentError(f"{name} is {value!r:.80}: give {wanted}")
    if least is not None and value is not None and not value >= least:
        raise ArgumentError(f"{name} is {value}: give {least:g} or more")


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type. A text is no list, and True no number."""
    if kind in (Any, inspect.Parameter.empty):
        return True
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    plain = get_origin(kind) or kind
    if isinstance(value, str | bytes | bool) and plain in (Sequence, int, float):
        return False
    accepted, _ = _KINDS.get(plain, (plain, ""))
    return isinstance(value, accepted)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    plain = get_origin(kind) or kind
    return _KINDS[plain][1] if plain in _KINDS else plain.__name__


def argument_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The names that a function takes as keywords, with those of a TypedDict behind `**`, and their types."""
    kinds: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            hint = parameter.annotation
            kinds |= get_type_hints(get_args(hint)[0] if get_origin(hint) is Unpack else hint)
        else:
            kinds[name] = parameter.annotation
    return kinds


def check_keywords(function: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ArgumentError for the first keyword that a function does not have."""
    known = list(allowed)
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=3, cutoff=0.5)
            remedy = f"did you mean {' or '.join(close)}?" if close else f"it takes {', '.join(known)}"
            raise ArgumentError(f"{function} has no argument {name!r}: {remedy}")


@contextmanager
def called_from_command() -> Iterator[None]:
    """Leave the options in messages as the command line writes them, whichever public functions the block calls."""
    before = _FROM_COMMAND.set(True)
    try:
        yield
    finally:
        _FROM_COMMAND.reset(before)


@contextmanager
def python_names(kinds: Mapping[str, Any]) -> Iterator[None]:
    """Write options as arguments in the message of a PairscoreError. kinds: arguments with their types."""
    try:
        yield
    except PairscoreError as error:
        if not _FROM_COMMAND.get():
            error.args = (in_python(str(error), kinds),)
        raise


def in_python(message: str, kinds: Mapping[str, Any]) -> str:
    """`message` with options as Python writes them: `--limit 9` as `limit 9`, `--no-tuning` as `tuning=False`.

    What the message quotes, and commands for a shell, stay as they are. kinds: arguments with their types.
    """

    def written(found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0]
        name, value = found["name"].replace("-", "_"), found["value"]
        negated = name not in kinds and name.removeprefix("no_") in kinds
        name = name.removeprefix("no_") if negated else name
        kind = kinds.get(name)
        if get_origin(kind) is Literal and value in get_args(kind):
            return f"{name}={value!r}"
        if kind is bool or bool in get_args(kind):
            name = f"{name}={not negated}"
        return f"{name} {value}" if value else name

    return _OPTION.sub(written, message)
