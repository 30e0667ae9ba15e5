"""What callers from Python meet: unknown arguments by name, and messages that name arguments instead of options."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar, Unpack, get_args, get_origin, get_type_hints

from pairscore.runtime.errors import PairscoreError

P = ParamSpec("P")
T = TypeVar("T")

# An option outside quotes: what a message quotes stays as it is, and so do commands for a shell.
_OPTION = re.compile(
    r"`(?:pip|pairscore) [^`]*`|(?<!\w)'[^']*'|(?<!\w)\"[^\"]*\"|(?<![\w-])--(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)"
)
_FLAGS = ("overwrite", "quiet", "resume")


class ArgumentError(PairscoreError, TypeError):
    """A keyword that a function does not have: Python's TypeError, with a remedy."""


def python_call(function: Callable[P, T]) -> Callable[P, T]:
    """A public function that refuses unknown keywords with what is close, and whose errors name its arguments."""
    allowed = argument_names(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        check_keywords(function.__name__, keywords, allowed)
        with python_arguments():
            return function(*arguments, **keywords)

    return call


def argument_names(function: Callable[..., Any]) -> list[str]:
    """The names that a function takes as keywords, with those of a TypedDict behind `**`."""
    names = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            hint = get_type_hints(function)[name]
            named = get_args(hint)[0] if get_origin(hint) is Unpack else hint
            names += list(get_type_hints(named))
        else:
            names.append(name)
    return names


def check_keywords(function: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ArgumentError for the first keyword that a function does not have."""
    known = list(allowed)
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=3, cutoff=0.5)
            remedy = f"did you mean {' or '.join(close)}?" if close else f"it takes {', '.join(known)}"
            raise ArgumentError(f"{function} has no argument {name!r}: {remedy}")


@contextmanager
def python_arguments() -> Iterator[None]:
    """Write options as arguments in the message of a PairscoreError: `--max-length` as `max_length`."""
    try:
        yield
    except PairscoreError as error:
        error.args = (in_python(str(error)),)
        raise


def in_python(message: str) -> str:
    """`message` with options as Python writes them; what it quotes, and commands for a shell, stay as they are."""
    return _OPTION.sub(_as_argument, message)


def _as_argument(found: re.Match[str]) -> str:
    if found["name"] is None:
        return found[0]
    name = found["name"].replace("-", "_")
    return f"{name}=True" if name in _FLAGS else name
