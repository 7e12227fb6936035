# INTERIM (integrator): to be overwritten whole by the owner of identity; _encoding_interim.py is deleted then.
"""What makes a call of a metric that call: binding to the signature, typed keys, names and digests.

A call is bound once, with defaults applied, so that `f(1)`, `f(1, b=2)` and `f(a=1, b=2)` are one metric. Its
identity is the encoding of its params (`smm._encoding_interim`), which tells 1, 1.0, True and "1" apart.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from smm._encoding_interim import NoIdentityError, canonical, digest, encode, is_shared, readable, to_json
from smm.errors import DeclarationError, MetricNameError, UnsupportedParamError
from smm.metric import Function, NameFunction

_PLAIN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")
_NOT_PLAIN = frozenset({"none", "true", "false", "nan", "inf"})
_LONGEST_PART = 40
_LONGEST_SHOWN = 200
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
_OWN = ("cache", "use_stored")


@attrs.frozen(slots=True)
class Call:
    """A call bound to its function's signature. Small: there may be 100,000 of them."""

    values: tuple[Any, ...]
    """Canonical values by the binder's parameters, ignored ones as they were given."""
    key: bytes
    """The encoding of the params: equal for equal calls, different for any two others."""


class Binder:
    """Binds calls and rows to one function's signature.

    Args:
        function: the metric's function.
        base_name: the metric, for messages.
        ignore: arguments that are no part of a call's identity.
        inputs: arguments that are filled when the metric is computed, and cannot be passed.

    Raises:
        DeclarationError: the function cannot be a metric's.
    """

    def __init__(
        self,
        function: Function,
        *,
        base_name: str,
        ignore: Sequence[str] = (),
        inputs: Sequence[str] = (),
    ) -> None:
        self.base_name = base_name
        self.ignore = tuple(ignore)
        _check_kind(function, base_name)
        parameters = _parameters(function, base_name)
        self.takes_manager = "CM" in parameters
        _check_parameters(parameters, base_name, self.ignore, tuple(inputs))
        hidden = {*inputs, "CM"} & set(parameters)
        self._parameters = [parameter for name, parameter in parameters.items() if name not in hidden]
        # What stands behind a hidden argument can only be passed by name.
        first_hidden = min((index for index, name in enumerate(parameters) if name in hidden), default=None)
        self._by_position = [
            parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and (first_hidden is None or index < first_hidden)
            for index, parameter in enumerate(self._parameters)
        ]
        self._signature = inspect.Signature(self._parameters)
        self._counted = [parameter.name not in self.ignore for parameter in self._parameters]
        kinds = {parameter.kind for parameter in self._parameters}
        self._positional_only = kinds <= {
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        }

    @property
    def needs_params(self) -> bool:
        """Whether a call without arguments does not fit."""
        return any(
            parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            for parameter in self._parameters
        )

    @property
    def identity_arguments(self) -> tuple[str, ...]:
        """Names of the arguments that make a call's identity, in signature order."""
        return tuple(p.name for p, counted in zip(self._parameters, self._counted, strict=True) if counted)

    # --- binding ----------------------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Bind a call as Python would, with defaults applied.

        Raises:
            TypeError: the call does not fit the signature.
            UnsupportedParamError: an argument has no lasting identity.
        """
        if not kwargs and self._positional_only and len(args) == len(self._parameters):
            return self._call(args)  # nothing to bind: each argument stands at its place
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.base_name}() {_as_python_says(error)}") from None
        bound.apply_defaults()
        return self._call(bound.arguments.values())

    def bind_row(self, row: Any) -> Call:
        """Bind one row of a params list: by position, by name, or a scalar for the one argument.

        Raises:
            As `bind`.
        """
        if isinstance(row, Mapping):
            if not all(isinstance(name, str) for name in row):
                raise TypeError(f"a row by name has argument names as keys, not {row!r}")
            return self.bind((), row)
        if isinstance(row, list | tuple) or (isinstance(row, np.ndarray) and row.ndim == 1):
            return self.bind(tuple(row), {})
        return self.bind((row,), {})

    def _call(self, given: Iterable[Any]) -> Call:
        values = tuple(map(self._canonical, self._parameters, self._counted, given))
        counted = [value for value, counted in zip(values, self._counted, strict=True) if counted]
        try:
            return Call(values, b"".join(map(encode, counted)))
        except NoIdentityError:
            for name, value in zip(self.identity_arguments, counted, strict=True):
                try:
                    encode(value)
                except NoIdentityError as error:
                    raise self._unsupported(name, error) from None
            raise

    def _canonical(self, parameter: inspect.Parameter, counted: bool, value: Any) -> Any:
        if not counted:
            return value
        try:
            return canonical(value)
        except NoIdentityError as error:
            raise self._unsupported(parameter.name, error) from None

    def _unsupported(self, argument: str, error: NoIdentityError) -> UnsupportedParamError:
        return UnsupportedParamError(
            base_name=self.base_name, argument=argument + error.place, found=error.found
        )

    # --- what a bound call says -------------------------------------------------------------------------

    def arguments(self, call: Call) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with; whatever it may change is a copy of its own."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, counted, placed, value in zip(
            self._parameters, self._counted, self._by_position, call.values, strict=True
        ):
            own = value if not counted or is_shared(value) else canonical(value)
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(own)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(own)
            elif placed:
                args.append(own)
            else:
                kwargs[parameter.name] = own
        return args, kwargs

    def params(self, call: Call) -> dict[str, Any]:
        """The params that make the call's identity, by argument name in signature order.

        Those of `*args` stand under `*args`, as a tuple; those of `**kwargs` under their own names, sorted.
        """
        found: dict[str, Any] = {}
        for parameter, counted, value in zip(self._parameters, self._counted, call.values, strict=True):
            if not counted:
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                found.update(sorted(value.items()))
            elif parameter.kind is parameter.VAR_POSITIONAL:
                found[f"*{parameter.name}"] = value
            else:
                found[parameter.name] = value
        return found

    def name(self, call: Call, name_generation_function: NameFunction | None = None) -> str:
        """The call's metric name, by smm's scheme or by the function given.

        Raises:
            MetricNameError: the function gives no usable name.
        """
        if name_generation_function is None:
            return metric_name(self.base_name, *self._parts(call))
        name = name_generation_function(self.base_name, self._short_params(call))
        check_base_name(name)
        return name

    def show(self, call: Call) -> str:
        """The call as a person would write it: `poly_Y(1, b=2)`, cut at 200 characters."""
        positional, named = self._parts(call)
        parts = [repr(value) for value in positional] + [f"{name}={value!r}" for name, value in named.items()]
        text = ", ".join(" ".join(part.split()) for part in parts)
        return f"{self.base_name}({text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + '...'})"

    def _parts(self, call: Call) -> tuple[list[Any], dict[str, Any]]:
        """The params as positional ones and those that can only be given by name."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for parameter, counted, value in zip(self._parameters, self._counted, call.values, strict=True):
            if not counted:
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update(sorted(value.items()))
            elif parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
        return positional, named

    def _short_params(self, call: Call) -> tuple[Any, ...]:
        """Params in signature order, without trailing ones equal to their defaults."""
        counted = [
            (parameter, value)
            for parameter, counted, value in zip(self._parameters, self._counted, call.values, strict=True)
            if counted
        ]
        while counted and _is_default(*counted[-1]):
            counted.pop()
        params: list[Any] = []
        for parameter, value in counted:
            if parameter.kind is parameter.VAR_POSITIONAL:
                params.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                params.extend(value[name] for name in sorted(value))
            else:
                params.append(value)
        return tuple(params)


# --- names ----------------------------------------------------------------------------------------------


def metric_name(base_name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> str:
    """The metric name of canonical params: `poly_Y_1_2`, `fit_1p5_lo_degree=3`.

    Where a part cannot stand for its value alone (a text with a blank, nan, a list, a date ...), or the name would
    end like a side-car's, `~` and a digest of all params follow.
    """
    parts = [(None, value) for value in positional] + list(named.items())
    texts = [_part(value) for _, value in parts]
    plain = all(text is not None for text in texts)
    shown = [text if text is not None else _cut(value) for text, (_, value) in zip(texts, parts, strict=True)]
    name = "_".join(
        [base_name, *(text if key is None else f"{key}={text}" for text, (key, _) in zip(shown, parts, strict=True))]
    )
    if plain and not (parts and shown[-1] == "date" and parts[-1][0] is None):
        return name
    return f"{name}~{params_digest(positional, named)}"


def params_digest(positional: Sequence[Any], named: Mapping[str, Any]) -> str:
    """Sixteen hex digits of canonical params: blake2b over the encoding of their tuple and their dict by name."""
    return digest(encode(tuple(positional)) + encode(dict(named)))


def legacy_metric_name(base_name: str, params: Sequence[Any]) -> str:
    """The names of simple-metrics-manager: parts by `str`, joined by `_`, every `.` written `p`.

    For stores that it wrote: `@CM.collect(name_generation_function=smm.legacy_metric_name)`.
    """
    return "_".join([base_name, *map(str, params)]).replace(".", "p")


def check_base_name(name: str) -> None:
    """Raise if no metric can have this name.

    Raises:
        MetricNameError: no text, empty, or like a side-car's.
    """
    if not isinstance(name, str):
        raise MetricNameError(name=repr(name), reason="is no text; give a str")
    if not name:
        raise MetricNameError(name=name, reason="is empty; give it a base_name")
    if name.endswith("_date"):
        raise MetricNameError(name=name, reason="ends in '_date', like the side-cars; choose another ending")
    if name == "<lambda>":
        raise MetricNameError(name=name, reason="is a lambda's; give it a base_name")


def params_to_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical params by argument name in the JSON form that records keep; different params differ in it."""
    return {name: to_json(value) for name, value in params.items()}


def nearest(call: Call, calls: Iterable[Call]) -> Call | None:
    """The call most like this one: most equal params first, then the least distance between numbers."""
    return max(calls, key=lambda other: _likeness(call, other), default=None)


def _likeness(one: Call, other: Call) -> float:
    return sum(map(_likeness_of_values, one.values, other.values))


def _likeness_of_values(one: Any, other: Any) -> float:
    if type(one) is type(other) and encode(one) == encode(other):
        return 2.0
    if isinstance(one, int | float) and isinstance(other, int | float):
        distance = abs(one - other)
        return 1 / (1 + distance) if math.isfinite(distance) else 0.0
    return 0.0


def _part(value: Any) -> str | None:
    """A value's part of a name if it is plain, that is, if no other value has the same part."""
    kind = type(value)
    if value is None or kind is bool:
        return str(value)
    if kind is int:
        return str(value) if abs(value) < 10**250 else None  # longer than any file name
    if kind is float:
        return repr(value).replace(".", "p") if math.isfinite(value) else None
    if kind is str and _PLAIN_TEXT.fullmatch(value) and value.lower() not in _NOT_PLAIN:
        return str(value)
    return None


def _cut(value: Any) -> str:
    return readable(value)[:_LONGEST_PART]


# --- signatures -----------------------------------------------------------------------------------------


def _check_kind(function: Function, base_name: str) -> None:
    inner = inspect.unwrap(function) if callable(function) else function
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise DeclarationError(
            base_name=base_name, reason="it is async; give a plain function, which may run the event loop itself"
        )
    if inspect.isgeneratorfunction(inner):
        raise DeclarationError(
            base_name=base_name, reason="it is a generator function; return list(...) of what it yields"
        )


def _parameters(function: Function, base_name: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise DeclarationError(
            base_name=base_name, reason=f"{function!r} has no signature to bind to; wrap it in a def"
        ) from error


def _check_parameters(
    parameters: Mapping[str, inspect.Parameter], base_name: str, ignore: tuple[str, ...], inputs: tuple[str, ...]
) -> None:
    for own in _OWN:
        if own in parameters:
            raise DeclarationError(
                base_name=base_name, reason=f"its parameter {own!r} is smm's own argument; rename the parameter"
            )
    last = next(reversed(parameters), None)
    manager = parameters.get("CM")
    if manager is not None and manager.kind is not manager.KEYWORD_ONLY and last != "CM":
        raise DeclarationError(base_name=base_name, reason="its parameter 'CM' must be the last or keyword-only")
    for what, names in (("ignore", ignore), ("inputs", inputs)):
        for name in names:
            if name not in parameters or name == "CM":
                known = ", ".join(name for name in parameters if name != "CM") or "none"
                raise DeclarationError(
                    base_name=base_name, reason=f"{what} names {name!r}, but its parameters are: {known}"
                )
    for name in inputs:
        if parameters[name].kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise DeclarationError(
                base_name=base_name, reason=f"the input {name!r} must be a parameter that can be passed by name"
            )


def _is_default(parameter: inspect.Parameter, value: Any) -> bool:
    if parameter.kind is parameter.VAR_POSITIONAL or parameter.kind is parameter.VAR_KEYWORD:
        return not value
    if parameter.default is parameter.empty:
        return False
    return encode(canonical(parameter.default)) == encode(value)


def _as_python_says(error: TypeError) -> str:
    return str(error).replace("missing a required", "is missing a required").replace("got an", "got an", 1)


def show_call(base_name: str, params: Mapping[str, Any]) -> str:
    """Interim."""
    return f"{base_name}({', '.join(repr(value) for value in params.values())})"
