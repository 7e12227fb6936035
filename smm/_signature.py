"""What a metric's function takes, seen as its calls and rows see it: without inputs and manager."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

from smm.errors import DeclarationError, closest
from smm.metric import Function

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

MANAGER = "CM"
"""The parameter by which a function asks for its manager."""

OF_THE_CALL = ("cache", "use_stored")
"""Keywords that a collected metric keeps for itself."""

# Flags of a function's code, as `inspect` names them.
_VAR_POSITIONAL, _VAR_KEYWORD = 0x4, 0x8
_SPECIAL = 0x20 | 0x80 | 0x100 | 0x200
"""Of a generator, a coroutine, or another that is not run by being called."""

_NO_INSTANCES = 1 << 20 | 1 << 7
"""Flags of classes that cannot be called: abstract ones, and those of Python's own machinery."""


class Parameter:
    """One argument of a function: what is needed here of `inspect.Parameter`, whose module takes a while."""

    __slots__ = ("default", "kind", "name")

    class empty:  # noqa: N801 - as there
        """In place of a default that there is not."""

    KINDS = ("by position only", "by position or name", "*", "by name only", "**")
    """In the order of `inspect`."""
    POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = KINDS

    def __init__(self, name: str, kind: str, default: Any = empty) -> None:
        self.name = name
        self.kind = kind
        self.default = default


Parameters: TypeAlias = Mapping[str, Parameter]


@attrs.frozen(kw_only=True, eq=False)
class Signature:
    """The arguments that calls of a metric may bring."""

    base_name: str
    positional: Sequence[Parameter]
    """Those that may be given by position."""
    keyword_only: Sequence[Parameter]
    rest: str | None
    """Name of the parameter like `*args`, if there is one."""
    options: str | None
    """Name of the parameter like `**kwargs`, if there is one."""
    filled: frozenset[str]
    """Inputs, and the manager if it is asked for: no call may bring them."""
    before_filled: int
    """So many of `positional` stand before the first filled argument; the others are passed by name."""

    @property
    def takes_manager(self) -> bool:
        """Whether the function has a parameter called `CM`."""
        return MANAGER in self.filled

    @property
    def plain_arguments(self) -> tuple[str, ...] | None:
        """Names of all arguments, if each may be given by position and by name; None otherwise."""
        if self.keyword_only or self.filled or self.rest or self.options:
            return None
        names = [each.name for each in self.positional if each.kind is each.POSITIONAL_OR_KEYWORD]
        return tuple(names) if len(names) == len(self.positional) else None

    def check_fit(self, count: int, keywords: Sequence[str]) -> None:
        """Refuse a call of so many positional arguments and these keywords as Python would.

        Raises:
            TypeError: it does not fit; the message is Python's, of the metric.
        """
        if count == len(self.positional) and not keywords and not self.keyword_only:
            return
        for keyword in keywords:
            self._check_keyword(keyword, count)
        if count > len(self.positional) and self.rest is None:
            raise self._misfit(f"takes {self._how_many()} but {_counted(count, 'was', 'were')} given")
        missing = [
            each.name
            for each in self.positional[count:]
            if each.default is each.empty and (each.kind is each.POSITIONAL_ONLY or each.name not in keywords)
        ]
        if missing:
            raise self._missing(missing, "positional")
        missing = [
            each.name
            for each in self.keyword_only
            if each.default is each.empty and each.name not in keywords
        ]
        if missing:
            raise self._missing(missing, "keyword-only")

    def _check_keyword(self, keyword: str, count: int) -> None:
        if type(keyword) is not str:
            raise self._misfit(f"takes argument names, not {keyword!r}")
        if keyword in self.filled:
            source = "the manager" if keyword == MANAGER else "another metric"
            raise self._misfit(f"gets its argument {keyword!r} from {source}; leave it out")
        names = [each.name for each in self.positional if each.kind is not each.POSITIONAL_ONLY]
        if keyword in names:
            if keyword in [each.name for each in self.positional[:count]]:
                raise self._misfit(f"got multiple values for argument {keyword!r}")
            return
        if self.options is not None or keyword in [each.name for each in self.keyword_only]:
            return
        if keyword in [each.name for each in self.positional]:
            raise self._misfit(f"got some positional-only arguments passed as keyword arguments: {keyword!r}")
        hint = closest(keyword, names + [each.name for each in self.keyword_only])
        raise self._misfit(f"got an unexpected keyword argument {keyword!r}{hint}")

    def _how_many(self) -> str:
        most = len(self.positional)
        least = sum(each.default is each.empty for each in self.positional)
        if least < most:
            return f"from {least} to {most} positional arguments"
        return f"{most} positional argument{'' if most == 1 else 's'}"

    def _missing(self, names: Sequence[str], kind: str) -> TypeError:
        quoted = [repr(name) for name in names]
        listed = " and ".join(quoted) if len(names) < 3 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
        plural = "" if len(names) == 1 else "s"
        return self._misfit(f"missing {len(names)} required {kind} argument{plural}: {listed}")

    def _misfit(self, what: str) -> TypeError:
        return TypeError(f"{self.base_name}() {what}")


def read_signature(
    base_name: str, function: Function, ignore: frozenset[str], inputs: frozenset[str]
) -> Signature:
    """The signature of a metric's function, checked against what its declaration says of it.

    A callable whose arguments Python does not tell (some builtins) takes any by position and none by name.

    Raises:
        DeclarationError: `function` cannot be a metric's, or `ignore` or `inputs` do not fit it.
    """
    if _is_plain(function):
        parameters = _of_code(function)
    else:
        _check_function(base_name, function)
        parameters = _parameters(base_name, function)
    _check_names(base_name, parameters)
    for name in inputs:
        _check_input(base_name, parameters, name)
    filled = inputs | ({MANAGER} & parameters.keys())
    _check_ignore(base_name, parameters, filled, ignore)
    positional: list[Parameter] = []
    keyword_only: list[Parameter] = []
    others: dict[str, str] = {}
    before_filled = None
    for each in parameters.values():
        if each.name in filled:
            before_filled = len(positional) if before_filled is None else before_filled
        elif _is_positional(each):
            positional.append(each)
        elif each.kind is each.KEYWORD_ONLY:
            keyword_only.append(each)
        else:
            others[each.kind] = each.name
    return Signature(
        base_name=base_name,
        positional=positional,
        keyword_only=keyword_only,
        rest=others.get(Parameter.VAR_POSITIONAL),
        options=others.get(Parameter.VAR_KEYWORD),
        filled=filled,
        before_filled=len(positional) if before_filled is None else before_filled,
    )


def is_of_python(function: Any) -> bool:
    """Return whether a callable is written in Python, with all that it wraps: partials and decorators too."""
    for _ in range(100):  # a mock has every attribute, for ever
        if isinstance(function, functools.partial):
            function = function.func
            continue
        if not _is_python_itself(function):
            return False
        function = getattr(function, "__wrapped__", None)
        if function is None:
            break
    return True


def _is_python_itself(function: Any) -> bool:
    if isinstance(function, MethodType):
        function = function.__func__
    if not isinstance(function, FunctionType):
        owner, method = (function, "__init__") if isinstance(function, type) else (type(function), "__call__")
        function = getattr(owner, method, None)
    return isinstance(function, FunctionType)


def _is_plain(function: Any) -> bool:
    """Whether it is a plain function, no generator and not async, whose arguments are those of its code."""
    # A wrapper says in its attributes what it wraps, or what its signature is.
    return type(function) is FunctionType and not vars(function) and not function.__code__.co_flags & _SPECIAL


def _is_positional(parameter: Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def _check_function(base_name: str, function: Any) -> None:
    import inspect

    if not callable(function):
        raise DeclarationError(base_name=base_name, reason=f"{function!r} is no function")
    if isinstance(function, type) and function.__flags__ & _NO_INSTANCES:
        raise DeclarationError(
            base_name=base_name,
            reason=f"{function!r} cannot be called: Python makes no object of this class; give a function",
        )
    for called in (function, type(function).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise DeclarationError(
                base_name=base_name,
                reason="its function is async; declare a plain one that runs it with asyncio.run(...)",
            )
        if inspect.isgeneratorfunction(called):
            raise DeclarationError(
                base_name=base_name,
                reason="its function is a generator, which can be read only once; return a list instead",
            )


def _of_code(function: Any) -> Parameters:
    """The arguments of a plain function: as `inspect.signature` has them, at under a third of its cost."""
    code: CodeType = function.__code__
    count, end = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    given = function.__defaults__ or ()
    defaults = dict(enumerate(given, count - len(given)))
    by_name = function.__kwdefaults__ or {}
    names = iter(code.co_varnames)
    made = [
        Parameter(
            name,
            Parameter.POSITIONAL_ONLY if at < code.co_posonlyargcount else Parameter.POSITIONAL_OR_KEYWORD,
            defaults.get(at, Parameter.empty),
        )
        for at, name in enumerate(itertools.islice(names, count))
    ]
    named = [
        Parameter(name, Parameter.KEYWORD_ONLY, by_name.get(name, Parameter.empty))
        for name in itertools.islice(names, end - count)
    ]
    if code.co_flags & _VAR_POSITIONAL:
        made.append(Parameter(next(names), Parameter.VAR_POSITIONAL))
    made += named
    if code.co_flags & _VAR_KEYWORD:
        made.append(Parameter(next(names), Parameter.VAR_KEYWORD))
    return {each.name: each for each in made}


def _parameters(base_name: str, function: Function) -> Parameters:
    import inspect

    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        if isinstance(function, functools.partial) and _tells_arguments(function.func):
            raise DeclarationError(
                base_name=base_name,
                reason=f"{function!r} cannot be called: it gives its function arguments that do not fit",
            ) from None
        return {"args": Parameter("args", Parameter.VAR_POSITIONAL)}
    return {
        name: Parameter(
            name,
            Parameter.KINDS[each.kind],
            Parameter.empty if each.default is each.empty else each.default,
        )
        for name, each in found.items()
    }


def _tells_arguments(function: Any) -> bool:
    import inspect

    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        return False
    return True


def _check_names(base_name: str, parameters: Parameters) -> None:
    for name in OF_THE_CALL:
        if name in parameters:
            raise DeclarationError(
                base_name=base_name,
                reason=f"{name!r} is a keyword of every collected metric; rename that argument",
            )
    manager = parameters.get(MANAGER)
    if manager is None or manager.kind is manager.KEYWORD_ONLY:
        return
    after = itertools.islice(parameters.values(), list(parameters).index(MANAGER) + 1, None)
    if manager.kind is not manager.POSITIONAL_OR_KEYWORD or any(
        _is_positional(each) or each.kind is each.VAR_POSITIONAL for each in after
    ):
        raise DeclarationError(
            base_name=base_name,
            reason=f"{MANAGER} is passed by name; make it the last argument, or a keyword-only one",
        )


def _check_input(base_name: str, parameters: Parameters, name: str) -> None:
    parameter = parameters.get(name)
    if name == MANAGER:
        reason = f"{MANAGER} is always the manager; rename that input"
    elif parameter is None:
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return
        reason = f"it has an input {name!r}, which is no argument of its function ({_listed(parameters)})"
        reason += closest(name, parameters)
    elif parameter.kind is parameter.KEYWORD_ONLY:
        return
    elif parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
        reason = f"its input {name!r} cannot be passed by name; make it a plain argument"
    elif any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
        reason = f"its input {name!r} stands before *args; make it keyword-only"
    else:
        return
    raise DeclarationError(base_name=base_name, reason=reason)


def _check_ignore(
    base_name: str, parameters: Parameters, filled: frozenset[str], ignore: frozenset[str]
) -> None:
    if not ignore:
        return
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in sorted(ignore):
        if name in filled:
            reason = f"ignore names {name!r}, which is no part of a call anyway; leave it out"
        elif name not in parameters and not open_ended:
            reason = f"ignore names {name!r}, which is no argument of its function ({_listed(parameters)})"
            reason += closest(name, parameters)
        else:
            continue
        raise DeclarationError(base_name=base_name, reason=reason)


def _listed(parameters: Parameters) -> str:
    return ", ".join(parameters) or "it takes none"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
