"""What callers from Python meet: unknown arguments by name, and messages that name arguments instead of options."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, get_args, get_origin, get_type_hints

from pairscore.runtime.errors import PairscoreError

P = ParamSpec("P")
T = TypeVar("T")

# An option and the word behind it; what a message quotes, and commands for a shell, match without a name.
_OPTION = re.compile(
    r"`(?:pip|pairscore) [^`]*`|(?<!\w)'[^']*'|(?<!\w)\"[^\"]*\"|"
    r"(?<![\w-])--(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?: (?P<value>\w[\w-]*))?"
)


class ArgumentError(PairscoreError, TypeError):
    """A keyword that a function does not have: Python's TypeError, with a remedy."""


def python_call(function: Callable[P, T]) -> Callable[P, T]:
    """A public function that refuses unknown keywords with what is close, and whose errors name its arguments."""
    kinds = argument_types(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        check_keywords(function.__name__, keywords, kinds)
        try:
            return function(*arguments, **keywords)
        except PairscoreError as error:
            error.args = (in_python(str(error), kinds),)
            raise

    return call


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
