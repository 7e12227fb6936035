"""The metrics section of a configuration: what each metric's keys are, and how metrics name each other."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from smm import sweep
from smm._keys import Refusal, Refused, nearest, read_list, read_mapping, refused, shown
from smm._strict import key, schema, structure
from smm._text import TIME, TIME_PATTERN, parse_seconds
from smm.metric import ON_STALE, STALE_ON, Argument, Input, Literal, OnStale, StaleOn


def _read_inputs(value: Any) -> dict[str, Input]:
    wanted = "a mapping of arguments to metrics, such as {x: poly_X}"
    return read_mapping(value, _read_input, wanted, key="the name of an argument")


def _read_input(value: Any) -> Input:
    if type(value) is str:
        return Input(metric=value)
    if type(value) is not dict:
        raise refused(
            f"found {shown(value)}, wanted the name of a metric, or {{metric: poly_X, params: [a]}}"
        )
    written = structure(value, _WrittenInput)
    return Input(metric=written.metric, params=written.params)


def _read_params(value: Any) -> Any:
    if type(value) is dict:
        return read_mapping(value, _read_param, key="the name of an argument")
    return read_list(value, _read_param, "a list such as [a, {value: 3}], or a mapping by argument name")


def _read_param(value: Any) -> Argument | Literal:
    if type(value) is str:
        return Argument(name=value)
    if type(value) is dict and value.keys() == {"value"}:
        return Literal(value=value["value"])
    if type(value) in (list, dict):
        raise refused(
            f"found {shown(value)}, wanted an argument's name; a value itself is written {{value: ...}}"
        )
    return Literal(value=value)


def _read_time(value: Any) -> float:
    if type(value) is not str:
        raise refused(f"found {shown(value)}, wanted {TIME}")
    try:
        return parse_seconds(value)
    except ValueError as error:
        raise refused(str(error)) from None


def _read_policy(value: Any) -> str:
    return _read_word(value, ON_STALE)


def _read_causes(value: Any) -> tuple[str, ...]:
    return read_list(value, lambda each: _read_word(each, STALE_ON), "a list, such as [code, inputs]")


def _read_word(value: Any, words: Sequence[str]) -> str:
    if type(value) is str and value in words:
        return value
    hint = nearest(value, words) if type(value) is str else ""
    raise refused(f"found {shown(value)}, wanted {', '.join(words[:-1])} or {words[-1]}{hint}")


_PARAM = {"$ref": "#/definitions/param"}
_PARAMS_SCHEMA = {
    "anyOf": [{"type": "array", "items": _PARAM}, {"type": "object", "additionalProperties": _PARAM}]
}
_PARAM_SCHEMA = {
    "anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        {"type": "object", "properties": {"value": {}}, "required": ["value"], "additionalProperties": False},
    ]
}


@attrs.frozen(kw_only=True)
class _WrittenInput:
    metric: str = attrs.field(metadata=key("The metric whose value the argument takes, by its name here."))
    params: Any = attrs.field(
        default=(),
        metadata=key(
            "Its params: a text names an argument of this row, {value: ...} is a value itself; a list by "
            "position, or a mapping by the other metric's argument names.",
            read=_read_params,
            schema=_PARAMS_SCHEMA,
        ),
    )


def _dotted_path(about: str) -> dict[str, Any]:
    return key(about, read=sweep.read_dotted_path, schema={"$ref": "#/definitions/dotted_path"})


_FUNCTION = _dotted_path("Dotted path of the function; without it the metric waits for @CM.collect.")
_PARAMS_LIST = key(
    "The rows it is wanted for; without it one row without params.",
    read=sweep.read_params_list,
    schema=sweep.SCHEMA,
)
_INPUTS = key(
    "Arguments that are filled with another metric's value when the metric is computed.",
    read=_read_inputs,
    schema={"type": "object", "additionalProperties": {"$ref": "#/definitions/input"}},
)
_IGNORE = key("Arguments that are no part of a result's identity.")
_TIMEOUT = key(
    "A row that computes longer is stopped, and failed: 10min, 2h; needs workers that are processes.",
    read=_read_time,
    schema={"type": "string", "pattern": TIME_PATTERN},
)
_RETRIES = key("How many more times a row that failed is tried in the same run.")


def policy(about: str) -> dict[str, Any]:
    """The key `on_stale`, of a metric or of the whole file."""
    return key(about, read=_read_policy, schema={"enum": list(ON_STALE)})


def age(about: str) -> dict[str, Any]:
    """The key `max_age`."""
    return key(about, read=_read_time, schema={"type": "string", "pattern": TIME_PATTERN})


def causes(about: str) -> dict[str, Any]:
    """The key `stale_on`."""
    return key(about, read=_read_causes, schema={"type": "array", "items": {"enum": list(STALE_ON)}})


_ON_STALE = policy("What becomes of a stale value of this metric; as the whole file says if not given.")
_MAX_AGE = age("How old a stored value of this metric may be; as the whole file says if not given.")
_STALE_ON = causes("What makes a value of this metric stale; as the whole file says if not given.")
_NAMES = _dotted_path("Dotted path of a function of base name and params that makes the metric names.")


@attrs.frozen(kw_only=True)
class MetricConfig:
    """One entry of `metrics`."""

    function: str | None = attrs.field(default=None, metadata=_FUNCTION)
    """Dotted path; None for a metric that waits for `@CM.collect`."""
    params_list: Sequence[sweep.Item] = attrs.field(default=((),), metadata=_PARAMS_LIST)
    """Rows and sweeps in the order written, for `sweep.expand`; the default is one row without params."""
    inputs: Mapping[str, Input] = attrs.field(factory=dict, metadata=_INPUTS)
    """By argument name."""
    ignore: tuple[str, ...] = attrs.field(default=(), metadata=_IGNORE)
    name_generation_function: str | None = attrs.field(default=None, metadata=_NAMES)
    """Dotted path."""
    timeout: float | None = attrs.field(default=None, metadata=_TIMEOUT)
    """Seconds."""
    retries: int = attrs.field(default=0, metadata=_RETRIES)
    on_stale: OnStale | None = attrs.field(default=None, metadata=_ON_STALE)
    max_age: float | None = attrs.field(default=None, metadata=_MAX_AGE)
    """Seconds."""
    stale_on: tuple[StaleOn, ...] | None = attrs.field(default=None, metadata=_STALE_ON)


def read_metrics(value: Any) -> dict[str, MetricConfig]:
    """The metrics section from plain data.

    Raises:
        Refused: with everything that is wrong in it.
    """
    if type(value) is not dict:
        raise refused(f"found {shown(value)}, wanted a mapping of metric names, such as {{poly_X: {{...}}}}")
    metrics: dict[str, MetricConfig] = {}
    found: list[Refusal] = []
    for name, written in value.items():
        try:
            if type(name) is not str:
                raise refused(
                    f"found the key {shown(name)}, wanted a metric's name; put it in quotes", at_key=True
                )
            metrics[name] = structure(written, MetricConfig)
        except Refused as error:
            found += error.below(name)
    found += [*_unknown_inputs(metrics, value), *_circle(metrics), *_too_many_rows(metrics)]
    if found:
        raise Refused(*found)
    return metrics


def _unknown_inputs(metrics: Mapping[str, MetricConfig], declared: Mapping[Any, Any]) -> Iterator[Refusal]:
    """Inputs that name no metric among the declared ones, whether those could be read or not."""
    names = [name for name in declared if type(name) is str]
    for name, metric in metrics.items():
        for argument, source in metric.inputs.items():
            if source.metric not in declared:
                hint = nearest(source.metric, names) or "; declare it under metrics"
                yield Refusal(f"found no metric {shown(source.metric)}{hint}", (name, "inputs", argument))


def _circle(metrics: Mapping[str, MetricConfig]) -> Iterator[Refusal]:
    reads = {
        name: [source.metric for source in metric.inputs.values()]
        for name, metric in metrics.items()
        if metric.inputs
    }
    try:
        graphlib.TopologicalSorter(reads).prepare()
    except graphlib.CycleError as error:
        chain = error.args[1][::-1]  # graphlib goes from what is read to who reads it
        shown_chain = chain if len(chain) <= 12 else [*chain[:6], "...", *chain[-5:]]
        message = f"{' -> '.join(shown_chain)}: a metric cannot read itself; take out one of these inputs"
        yield Refusal(message, (chain[0], "inputs"))


def _too_many_rows(metrics: Mapping[str, MetricConfig]) -> Iterator[Refusal]:
    rows = 0
    for name, metric in metrics.items():
        for index, item in enumerate(metric.params_list):
            rows += sweep.count(item)
            if rows > sweep.MAX_ROWS:
                message = f"found more than {sweep.MAX_ROWS:,} rows up to here; make the sweeps coarser"
                yield Refusal(message, (name, "params_list", index))
                return


METRICS_SCHEMA = {"type": "object", "additionalProperties": {"$ref": "#/definitions/metric"}}


def definitions() -> dict[str, Any]:
    """The parts that METRICS_SCHEMA is made of."""
    short = {"type": "string", "description": "The metric, if it has no params."}
    return sweep.DEFINITIONS | {
        "metric": schema(MetricConfig),
        "input": {"anyOf": [short, schema(_WrittenInput)]},
        "param": _PARAM_SCHEMA,
    }
