"""What YAML's parsers say about a text, said so that a person can mend it."""

from __future__ import annotations

import re

import yaml

_UNPRINTABLE = "[^\\t\\n\\r\\x20-\\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]"

MAX_DEPTH = 1_000
"""Levels of nesting in a document; also libyaml's own limit, since 0.2.6."""
TOO_DEEP = f"nested more than {MAX_DEPTH:,} levels deep; write it flatter"

_OPEN_QUOTES = "these quotes are not closed; close them"

# What PyYAML's parsers say, in C or in Python, and what a person can do about it.
_SYNTAX = [
    (
        r"mapping values are not allowed",
        "found ':' where no key can stand; indent it like its neighbours, or quote text that holds ': '",
    ),
    (r"that cannot start any token|tab character", "found {here}, with which no value begins; {instead}"),
    (
        r"expected ',' or '[\]}]'",
        "found {here} in the brackets opened in {before}, wanted a comma or their end; close them",
    ),
    (
        r"expected key|'-' indicator|<block end>",
        "found {here}, which does not continue what began in {before}; indent it like its neighbours",
    ),
    (
        r"unexpected end of stream|unexpected document",
        _OPEN_QUOTES,
    ),
    (r"find expected ':'", "found a key without ':' in {before}; write it as 'key: value'"),
    (r"expected (the )?node content", "found {here}, wanted a value; put a text that begins so in quotes"),
    (
        r"alphabetic or numeric",
        "found {here} in the name of an anchor or alias; quote a text that begins with & or *",
    ),
    (r"sequence entries are not allowed", "found '-' where no list can begin; put it on a line of its own"),
    (
        r"escape|hexdecimal",
        "found an escape that YAML does not know; use single quotes, where a backslash is itself",
    ),
    (
        r"comment or line break|chomping",
        "found {here} after | or >, wanted the end of the line; quote the text",
    ),
    (r"maximum nesting depth", TOO_DEEP),
    (r"<?document start>?", "found {here} after the end of the document; one file is one configuration"),
]


def explained(error: yaml.MarkedYAMLError, text: str) -> tuple[int, int, str]:
    """The line and column (from 0) where a parser stopped, and a sentence about it."""
    said = error.problem or "it cannot be parsed"
    at, before = error.problem_mark or error.context_mark, error.context_mark or error.problem_mark
    if at is None or before is None:
        return 0, 0, f"this is no YAML: {said}"
    sentence = next((known for pattern, known in _SYNTAX if re.search(pattern, said)), None)
    if sentence is None:
        return at.line, at.column, f"this is no YAML: {said}"
    if sentence is _OPEN_QUOTES:  # where they should have ended is anyone's guess
        return before.line, before.column, sentence
    lines = text.split("\n", at.line + 1)
    character = lines[at.line][at.column : at.column + 1] if at.line < len(lines) else ""
    here = repr(character) if character else "the end of the line"
    return (
        at.line,
        at.column,
        sentence.format(
            here="a tab" if character == "\t" else here,
            before=f"line {before.line + 1}, column {before.column + 1}",
            instead="YAML is indented with spaces" if character == "\t" else "put the text in quotes",
        ),
    )


def unprintable(text: str) -> tuple[int, str]:
    """The index of the first character that YAML does not allow, and a sentence about it."""
    found = re.search(_UNPRINTABLE, text)
    if found is None:
        return 0, "found a character that YAML does not allow"
    character = f"U+{ord(found.group()):04X}"
    return found.start(), f"found the control character {character}; in double quotes write it as an escape"
