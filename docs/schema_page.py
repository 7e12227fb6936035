"""The tables of all configuration keys, in Markdown, from the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_WORDS = {"array": "list", "object": "mapping", "boolean": "true or false"}
"""YAML's words for JSON Schema's."""


def render(schema: Schema) -> str:
    """A table for each kind of mapping in a configuration: the file, a run, a metric, ..."""
    definitions = schema["definitions"]
    parts = [
        *_section("The file", schema),
        *_section("`run`", definitions["run"]),
        *_section("A metric", definitions["metric"]),
        *_section("An input of a metric", _mapping(definitions["input"])),
    ]
    for storage in definitions["storage"]["anyOf"]:
        kind = storage["properties"]["type"]
        title = f"`storage` of type `{kind['const']}`" if "const" in kind else "`storage` of your own"
        parts += _section(title, storage)
    return "\n".join(parts)


def _mapping(schema: Schema) -> Schema:
    """Of alternatives, the one with keys."""
    found: Schema = next(choice for choice in schema["anyOf"] if "properties" in choice)
    return found


def _section(title: str, schema: Schema) -> Iterator[str]:
    yield f"### {title}\n"
    yield "| key | value | default | what it says |"
    yield "|---|---|---|---|"
    for key, value in schema["properties"].items():
        required = key in schema.get("required", ())
        default = "required" if required else _code(value["default"]) if "default" in value else ""
        yield f"| `{key}` | {_kind(value)} | {default} | {value.get('description', '')} |"
    yield ""


def _kind(schema: Schema) -> str:
    """What a value may be, in a word or two."""
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_code, schema["enum"]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "dotted path" if name == "dotted_path" else f"{name}, see below"
    if "allOf" in schema:  # around a reference, which has no description of its own
        return _kind(schema["allOf"][0])
    if "anyOf" in schema:
        # `${VAR}` may stand for any value of a storage or run: said once in the text, not in each row.
        choices = [choice for choice in schema["anyOf"] if choice.get("pattern") != r"\$\{"]
        return " or ".join(dict.fromkeys(_kind(choice) for choice in choices))
    kind: str = schema["type"]
    if "enum" in schema.get("items", {}):
        return f"list of {_kind(schema['items'])}"
    return _WORDS.get(kind, kind)


def _code(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
