"""Any configuration to YAML and back, and the JSON Schema held against the loader."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smm import _yaml, sweep
from smm.config import (
    Config,
    CustomStorage,
    JsonStorage,
    MemoryStorage,
    MetricConfig,
    NpyStorage,
    NpzStorage,
    RunConfig,
    json_schema,
    load_config,
    read_config,
)
from smm.errors import ConfigError
from smm.metric import ON_STALE, STALE_ON, Argument, Input, Literal
from tests import yaml_text

CONFIGS = Path(__file__).parent.parent / "configs"
FOLDER = Path("/somewhere/project")


def read(text: str) -> Config:
    return read_config(text.encode(), FOLDER / "metrics.yaml")


# --- configurations to YAML and back ---------------------------------------------------------------------


def is_no_sweep(value: Any) -> bool:
    return not (isinstance(value, dict) and len(value) == 1 and set(value) <= set(sweep.WORDS))


names = yaml_text.words | yaml_text.texts
dotted_paths = st.lists(yaml_text.words | st.just("é"), min_size=2, max_size=3).map(".".join)
values = yaml_text.plain.filter(is_no_sweep)
integers = st.integers(-(10**6), 10**6)
ranges = st.builds(
    lambda start, count, step: sweep.Range(start=start, stop=start + count * step, step=step),
    integers,
    st.integers(1, 99),
    integers.filter(bool),
)
finite = st.floats(-1e300, 1e300)
linspaces = st.builds(sweep.Linspace, start=finite, stop=finite, count=st.integers(1, 99))
axes = st.lists(values, min_size=1, max_size=3).map(tuple) | ranges | linspaces
items: st.SearchStrategy[Any] = st.one_of(
    st.lists(values, max_size=3).map(tuple),
    st.dictionaries(names, values, max_size=3).filter(is_no_sweep),
    yaml_text.scalars.filter(lambda value: value is not None),
    st.builds(sweep.Grid, axes=st.dictionaries(names, axes, min_size=1, max_size=2)),
    st.builds(sweep.Zip, axes=st.dictionaries(names, st.tuples(values, values), min_size=1, max_size=2)),
    ranges,
    linspaces,
    st.builds(sweep.RowsFrom, path=dotted_paths),
)
params = st.builds(Argument, name=names) | st.builds(Literal, value=yaml_text.plain)
folders = yaml_text.words.map(Path) | st.just(Path("/a b/é"))
storages = st.one_of(
    st.builds(JsonStorage, metrics_dir=folders, fsync=st.booleans()),
    st.builds(NpyStorage, metrics_dir=folders, fsync=st.booleans(), allow_pickle=st.booleans()),
    st.builds(
        NpzStorage,
        metrics_dir=folders,
        fsync=st.booleans(),
        compress=st.booleans(),
        list_limit=st.none() | st.integers(0),
    ),
    st.just(MemoryStorage()),
    st.builds(
        CustomStorage,
        type=dotted_paths,
        keywords=st.dictionaries(
            yaml_text.words, yaml_text.scalars.filter(lambda value: "$" not in str(value)), max_size=2
        ),
    ),
)


executors = st.sampled_from(["threads", "processes", "dask", "tcp://host:8786", "ucx://[::1]:8786"])
runs = st.builds(RunConfig, executor=executors, workers=st.none() | st.integers(1, 10**6))
TIMES = {"500ms": 0.5, "90 s": 90.0, "1.5min": 90.0, "2 H": 7200.0, "7d": 604800.0, "36500 d": 3.1536e9}
SIZES = {"1 B": 1, "1.5kB": 1500, "64 KiB": 65536, "500 mb": 5 * 10**8, "2 GiB": 2**31, "1TB": 10**12}

policies = st.sampled_from(ON_STALE)
causes = st.lists(st.sampled_from(STALE_ON), max_size=4).map(tuple)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any configuration, with inputs that name metrics and form no circle."""
    declared = draw(st.lists(names, max_size=4, unique=True))
    metrics = {}
    for index, name in enumerate(declared):
        upstream = st.sampled_from(declared[:index]) if index else st.nothing()
        sources = st.builds(
            Input,
            metric=upstream,
            params=st.lists(params, max_size=2).map(tuple) | st.dictionaries(names, params, max_size=2),
        )
        metrics[name] = draw(
            st.builds(
                MetricConfig,
                function=st.none() | dotted_paths,
                params_list=st.lists(items, max_size=3).map(tuple),
                inputs=st.dictionaries(names, sources, max_size=2),
                ignore=st.lists(names, max_size=2).map(tuple),
                name_generation_function=st.none() | dotted_paths,
                timeout=st.none() | st.sampled_from(sorted(TIMES.values())),
                retries=st.integers(0, 99),
                on_stale=st.none() | policies,
                max_age=st.none() | st.sampled_from(sorted(TIMES.values())),
                stale_on=st.none() | causes,
            )
        )
    return Config(
        metrics=metrics,
        pythonpath=tuple(draw(st.lists(folders, max_size=2))),
        storage=draw(storages),
        verbose=draw(st.booleans()),
        dynamic_metric_creation=draw(st.booleans()),
        on_stale=draw(policies),
        max_age=draw(st.none() | st.sampled_from(sorted(TIMES.values()))),
        stale_on=draw(causes),
        run=draw(runs),
        memory_limit=draw(st.none() | st.sampled_from(sorted(SIZES.values()))),
    )


def plain(value: Any) -> Any:
    """The plain data of which a configuration is read."""
    match value:
        case Argument(name=name):
            return name
        case Literal(value=literal):
            return {"value": literal}
        case sweep.Range(start=start, stop=stop, step=step):
            return {"range": [start, stop, step]}
        case sweep.Linspace(start=start, stop=stop, count=count):
            return {"linspace": [start, stop, count]}
        case sweep.Grid(axes=axes):
            return {"grid": plain(axes)}
        case sweep.Zip(axes=axes):
            return {"zip": plain(axes)}
        case sweep.RowsFrom(path=path):
            return {"rows_from": path}
        case CustomStorage(type=kind, keywords=keywords):
            return {**keywords, "type": kind}
        case JsonStorage() | NpyStorage() | NpzStorage() | MemoryStorage():
            return {"type": type(value).__name__.removesuffix("Storage").lower(), **fields(value)}
        case MetricConfig():
            times = written("timeout", value.timeout, TIMES) | written("max_age", value.max_age, TIMES)
            return fields(value) | times
        case Config():
            limits = written("memory_limit", value.memory_limit, SIZES)
            return fields(value) | limits | written("max_age", value.max_age, TIMES)
        case Input() | RunConfig():
            return fields(value)
        case Path():
            return str(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
    return value


def fields(value: Any) -> dict[str, Any]:
    return {
        field.name: plain(getattr(value, field.name))
        for field in attrs.fields(type(value))
        if field.name != "origin" and getattr(value, field.name) is not None
    }


def written(key: str, value: float | None, texts: dict[str, Any]) -> dict[str, str]:
    """A key whose value is written with its unit."""
    return {} if value is None else {key: next(text for text, meant in texts.items() if meant == value)}


@given(config=configs(), style=st.sampled_from([yaml_text.flow, yaml_text.block]))
def test_configurations_to_yaml_and_back(config: Config, style: Any) -> None:
    again = read(style(plain(config)))
    # By repr, which tells 1 from 1.0 and True, and knows the order of keys.
    assert repr(again.metrics) == repr(config.metrics)
    assert (again.verbose, again.dynamic_metric_creation) == (config.verbose, config.dynamic_metric_creation)
    assert (repr(again.run), again.memory_limit) == (repr(config.run), config.memory_limit)
    assert (again.on_stale, again.max_age, again.stale_on) == (
        config.on_stale,
        config.max_age,
        config.stale_on,
    )
    assert again.pythonpath == tuple(FOLDER / path for path in config.pythonpath)
    if isinstance(config.storage, JsonStorage | NpyStorage | NpzStorage):
        folder = FOLDER / config.storage.metrics_dir
        assert again.storage == attrs.evolve(config.storage, metrics_dir=folder)
    else:
        assert repr(again.storage) == repr(config.storage)


# --- the schema ------------------------------------------------------------------------------------------


def is_whole(_: Any, value: Any) -> bool:
    # For JSON 1.0 is an integer like 1; in YAML they are two values.
    return type(value) is int


Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # its stub has no types
    jsonschema.Draft7Validator,
    type_checker=jsonschema.Draft7Validator.TYPE_CHECKER.redefine("integer", is_whole),
)
SCHEMA = Validator(json_schema())

# What a schema cannot say, by the words of the loader.
BEYOND_THE_SCHEMA = (
    "no metric",
    "cannot read itself",
    "equally many",
    "no values from",
    "rows, wanted at most",
    "rows up to here",
    "finite number",
    "too far apart",
    "environment variable",
    "$ without meaning",
    "whose ~",
    "found the key",
    "of at most 36,500 days",
    "at least one byte",
)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())


def test_the_schema_file_is_up_to_date() -> None:
    written = (CONFIGS / "smm.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(json_schema(), indent=2) + "\n", "smm schema > configs/smm.schema.json"


def test_the_schema_describes_every_key() -> None:
    def described(schema: Any) -> None:
        for key, value in schema.items() if isinstance(schema, dict) else ():
            if key == "properties" and "type" in schema and "grid" not in value:
                assert all("description" in each or each == {} for each in value.values()), value
            described(value)

    described(json_schema())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_the_examples(path: Path) -> None:
    assert SCHEMA.is_valid(_yaml.read(path.read_bytes(), "m").data)
    load_config(path)


@given(configs())
def test_the_schema_takes_every_configuration(config: Config) -> None:
    SCHEMA.validate(plain(config))


junk: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1,
        1.0,
        2.5,
        "",
        "x",
        "a.b",
        "${SMM_NOT_SET:-true}",
        "npz",
        "tcp://x",
        "10min",
        "2 GiB",
        "0 s",
        "99999d",
        "recompute",
        ["code", "age"],
        "0.1B",
        [],
        ["x"],
        [1],
        [[]],
        {},
        {"x": 1},
        {"grid": {"a": [1]}},
        {"range": [0, 3]},
        {"value": 1},
        {"type": "json"},
        [{"range": [0, 1]}],
        [0, 1, 2],
        math.inf,
    ]
).map(copy.deepcopy)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every list and mapping in some data with every key of it."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        holder = todo.pop()
        keys = (
            list(holder)
            if isinstance(holder, dict)
            else range(len(holder))
            if isinstance(holder, list)
            else []
        )
        found += [(holder, key) for key in keys]
        todo += [holder[key] for key in keys]
    return found


@given(config=configs(), data=st.data())
def test_schema_and_loader_agree_on_spoilt_configurations(config: Config, data: st.DataObject) -> None:
    spoilt = json.loads(json.dumps(plain(config)))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places(spoilt)))
        match data.draw(st.sampled_from(["replace", "delete", "add"])):
            case "replace":
                holder[key] = data.draw(junk)
            case "delete":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[
                    data.draw(
                        st.sampled_from(
                            [
                                "extra",
                                "range",
                                "value",
                                "metric",
                                "function",
                                "type",
                                "timeout",
                                "workers",
                                "on_stale",
                                "max_age",
                                "stale_on",
                            ]
                        )
                    )
                ] = data.draw(junk)
        assume(spoilt)
    agree(spoilt)


@pytest.mark.parametrize(("text", "wanted"), yaml_text.table("bad_configs.txt"))
def test_schema_and_loader_agree_on_the_table(text: str, wanted: list[str]) -> None:
    document = _yaml.read(text.encode(), "m.yaml")
    if not document.problems and document.data is not None:
        agree(document.data)


def agree(data: Any) -> None:
    try:
        read(yaml_text.flow(data))
    except ConfigError as error:
        said = [problem.message for problem in error.problems]
        beyond = all(any(words in message for words in BEYOND_THE_SCHEMA) for message in said)
        beyond = beyond or "${" in json.dumps(data)  # what a variable holds is no matter of the schema
        assert beyond or not SCHEMA.is_valid(data), said
    else:
        SCHEMA.validate(data)
