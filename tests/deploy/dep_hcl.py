"""A reader for the part of HCL's native syntax that the kit writes: blocks, attributes, strings, lists, references.

It follows the grammar of HCL's specification and refuses everything else, so that a quote that ends too early shows.
"""

import re

_TOKENS = re.compile(
    r"""(?P<space>[ \t\n]+|\#[^\n]*\n)
      | (?P<string>"(?:[^"\\\n$%]|\\["\\nrt]|\$\$\{|%%\{|\$\{[a-z_.]+\}|\$(?!\{)|%(?!\{))*")
      | (?P<name>[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*)
      | (?P<sign>[{}\[\],=])""",
    re.VERBOSE,
)


def read(text):
    """A list of blocks: (keyword, labels, attributes, blocks)."""
    tokens, end = [], 0
    for match in _TOKENS.finditer(text + "\n"):
        assert match.start() == end, f"no HCL at: {text[end : end + 60]!r}"
        end = match.end()
        if match.lastgroup != "space":
            tokens.append((match.lastgroup, match.group()))
    assert end == len(text) + 1, f"no HCL at: {text[end : end + 60]!r}"
    blocks = []
    while tokens:
        blocks.append(_block(tokens))
    return blocks


def _take(tokens, kind, value=None):
    found = tokens.pop(0)
    assert found[0] == kind and value in (None, found[1]), f"{found} where {kind} {value or ''} was expected"
    return found[1]


def _block(tokens, keyword=None):
    keyword = keyword or _take(tokens, "name")
    labels = []
    while tokens[0][0] == "string":
        labels.append(_take(tokens, "string")[1:-1])
    _take(tokens, "sign", "{")
    attributes, blocks = {}, []
    while tokens[0] != ("sign", "}"):
        name = _take(tokens, "name")
        if tokens[0] == ("sign", "="):
            _take(tokens, "sign", "=")
            assert name not in attributes
            attributes[name] = _value(tokens)
        else:
            blocks.append(_block(tokens, name))
    _take(tokens, "sign", "}")
    return keyword, labels, attributes, blocks


def _value(tokens):
    kind, text = tokens.pop(0)
    if kind == "string":
        return text[1:-1]
    if kind == "name":
        return f"<{text}>"
    if (kind, text) == ("sign", "{"):
        fields = {}
        while tokens[0] != ("sign", "}"):
            name = _take(tokens, "name")
            _take(tokens, "sign", "=")
            fields[name] = _value(tokens)
        _take(tokens, "sign", "}")
        return fields
    assert (kind, text) == ("sign", "[")
    values = [_value(tokens)]
    while tokens[0] == ("sign", ","):
        tokens.pop(0)
        values.append(_value(tokens))
    _take(tokens, "sign", "]")
    return values
