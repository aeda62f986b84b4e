"""The filter language of list calls: AIP-160, with the fields and operators that a request's documentation names."""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from cpr_kit.emulator.errors import invalid_argument

Predicate = Callable[[Message], bool]
_DEPTH = 32
_NAME = re.compile(r"""[^\s()"'=<>!:,.]+""")
_PLAIN = re.compile(r"""[^\s()"'=<>!,]+""")
_COMPARATOR = re.compile(r"<=|>=|!=|<|>|=|:")
_ESCAPED = "\"'\\*"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


class Kind(enum.Enum):
    TEXT = "text"
    ID = "id"
    """The last segment of a resource name, without a version."""
    ENUM = "enum"
    TIME = "time"
    BOOL = "bool"
    LABELS = "labels"
    LEVEL = "level"
    """One of `choices`, which are in their order."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field to filter by: its path in the message, or `value` where the message does not have it."""

    kind: Kind
    operators: tuple[str, ...]
    path: str = ""
    value: Callable[[Any], Any] | None = None
    choices: tuple[str, ...] = ()
    """The names of an enum's values."""

    def of(self, message: Any) -> Any:
        return self.value(message) if self.value else value_at(message, self.path)


@dataclass(frozen=True)
class _Value:
    """What stands on the right: its text, where its wildcards are, and where it begins."""

    text: str
    stars: tuple[int, ...]
    at: int

    def matches(self, text: str) -> bool:
        """With `*` for any characters; each piece is looked for once, so that no pattern takes long."""
        if not self.stars:
            return text == self.text
        edges = [-1, *self.stars, len(self.text)]
        first, *middle, last = [self.text[a + 1 : b] for a, b in itertools.pairwise(edges)]
        if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


def predicate(text: str, fields: Mapping[str, Field]) -> Predicate:
    """Whether a message passes the filter. Raises INVALID_ARGUMENT with what is wrong and where."""
    return _Parser(text, fields).parse()


def value_at(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return message


def nanoseconds(time: Any) -> int:
    """A Timestamp as one number."""
    return int(time.seconds) * 10**9 + int(time.nanos)


def snake_case(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


class _Parser:
    """Recursive descent by AIP-160's grammar, in which OR binds closer than AND."""

    def __init__(self, text: str, fields: Mapping[str, Field]) -> None:
        self._text = text
        self._fields = fields
        self._at = 0
        self._depth = 0

    def parse(self) -> Predicate:
        self._spaces()
        if self._at == len(self._text):
            return lambda _: True
        found = self._expression()
        if self._at < len(self._text):
            self._refuse(f'"{self._text[self._at]}" is not expected here')
        return found

    def _expression(self) -> Predicate:
        """Factor {[AND] factor}: terms side by side must all hold, as with AND."""
        all_of = [self._factor()]
        while self._at < len(self._text) and self._text[self._at] != ")":
            self._keyword("AND")
            all_of.append(self._factor())
        return all_of[0] if len(all_of) == 1 else lambda message: all(each(message) for each in all_of)

    def _factor(self) -> Predicate:
        any_of = [self._term()]
        while self._keyword("OR"):
            any_of.append(self._term())
        return any_of[0] if len(any_of) == 1 else lambda message: any(each(message) for each in any_of)

    def _term(self) -> Predicate:
        negated = self._keyword("NOT") or self._symbol("-")
        found = self._composite() if self._symbol("(") else self._restriction()
        return (lambda message: not found(message)) if negated else found

    def _composite(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEPTH:
            self._refuse(f"there are more than {_DEPTH} parentheses within each other")
        found = self._expression()
        if not self._symbol(")"):
            self._refuse('a ")" is missing')
        self._depth -= 1
        return found

    def _restriction(self) -> Predicate:
        at = self._at
        names = [self._name()]
        while self._text.startswith(".", self._at):
            self._at += 1
            names.append(self._name())
        name, keys = snake_case(names[0]), names[1:]
        self._spaces()
        operator = self._operator(names, at)
        field = self._fields.get(name)
        if field is None or (keys and field.kind is not Kind.LABELS):
            known = ", ".join(sorted(self._fields))
            self._refuse(f'the field "{".".join(names)}" cannot be filtered by; these can be: {known}', at)
        value = self._value()
        self._spaces()
        if field.kind is Kind.LABELS:
            return self._labels(field, ".".join(keys), operator, value, at)
        if operator not in field.operators:
            self._refuse(f'"{name}" takes {" ".join(field.operators)}, not "{operator}"', at)
        return self._comparison(field, operator, value)

    def _operator(self, names: list[str], at: int) -> str:
        match = _COMPARATOR.match(self._text, self._at)
        if match is None:
            word = ".".join(names)
            hint = f"; the operator is written {word.upper()}" if word in {"and", "or", "not"} else ""
            self._refuse(f'"{word}" is followed by no comparison{hint}', at)
        self._at = match.end()
        if self._text.startswith("!", self._at):
            self._refuse('"!" is not expected here; "is not" is written !=')
        self._spaces()
        return match[0]

    def _labels(self, field: Field, key: str, operator: str, value: _Value, at: int) -> Predicate:
        """`labels:KEY` and `labels.KEY:*` for the key, `labels.KEY=VALUE` for its value."""
        exists = operator == ":" and value.text == "*" and bool(value.stars)
        if operator not in field.operators:
            self._refuse(f'labels take {" ".join(field.operators)}, not "{operator}"', at)
        if not key and operator != ":":
            self._refuse("a label is named as labels.KEY=VALUE, its key alone as labels:KEY", at)
        if not key:
            return lambda message: bool(field.of(message)) if exists else value.text in field.of(message)
        if exists:
            return lambda message: key in field.of(message)
        matches = value.matches if operator == ":" else value.text.__eq__

        def holds(message: Message) -> bool:
            labels = field.of(message)
            return (key in labels and matches(labels[key])) is (operator != "!=")

        return holds

    def _comparison(self, field: Field, operator: str, value: _Value) -> Predicate:
        if field.kind in {Kind.TEXT, Kind.ID}:
            of: Callable[[Any], str] = (lambda message: _last(field.of(message))) if field.kind is Kind.ID else field.of
            if operator == ":":
                return lambda message: value.matches(of(message))
            return lambda message: (of(message) == value.text) is (operator == "=")
        if field.kind is Kind.TIME:
            moment, compare = self._moment(value), _COMPARE[operator]
            return lambda message: compare(nanoseconds(field.of(message)), moment)
        if field.kind is Kind.BOOL:
            if value.text not in {"true", "false"}:
                self._refuse(f'"{value.text}" is neither true nor false', value.at)
            return lambda message: (bool(field.of(message)) is (value.text == "true")) is (operator == "=")
        if field.kind is Kind.LEVEL:
            choice, compare = self._choice(field, value), _COMPARE[operator]
            return lambda message: compare(field.choices.index(field.of(message)), choice)
        return self._enumeration(field, operator, value)

    def _moment(self, value: _Value) -> int:
        moment = _moment(value.text)
        if moment is None:
            self._refuse(f'"{value.text}" is no time as of RFC 3339, such as "2021-05-18T00:00:00Z"', value.at)
        return moment

    def _choice(self, field: Field, value: _Value) -> int:
        if value.text not in field.choices:
            self._refuse(f'"{value.text}" is none of {", ".join(field.choices)}', value.at)
        return field.choices.index(value.text)

    def _enumeration(self, field: Field, operator: str, value: _Value) -> Predicate:
        self._choice(field, value)
        return lambda message: (_enum_name(message, field.path) == value.text) is (operator == "=")

    # What stands at the present place; spaces are passed over after each.

    def _keyword(self, word: str) -> bool:
        match = _NAME.match(self._text, self._at)
        if match is None or match[0] != word:
            return False
        self._at = match.end()
        self._spaces()
        return True

    def _symbol(self, symbol: str) -> bool:
        if not self._text.startswith(symbol, self._at):
            return False
        self._at += len(symbol)
        self._spaces()
        return True

    def _name(self) -> str:
        if self._text[self._at : self._at + 1] in {'"', "'"}:
            return self._quoted().text
        match = _NAME.match(self._text, self._at)
        if match is None:
            self._refuse("the name of a field is expected here")
        self._at = match.end()
        return match[0]

    def _value(self) -> _Value:
        if self._text[self._at : self._at + 1] in {'"', "'"}:
            return self._quoted()
        match = _PLAIN.match(self._text, self._at)
        if match is None:
            self._refuse("a value is expected here")
        self._at = match.end()
        return _Value(match[0], tuple(i for i, char in enumerate(match[0]) if char == "*"), match.start())

    def _quoted(self) -> _Value:
        start, quote = self._at, self._text[self._at]
        chars: list[str] = []
        stars: list[int] = []
        self._at += 1
        while (char := self._text[self._at : self._at + 1]) != quote:
            if not char:
                self._refuse(f"the text that begins with {quote} does not end", start)
            if char == "\\":
                self._at += 1
                char = self._text[self._at : self._at + 1]
                if not char or char not in _ESCAPED:
                    self._refuse(f'"\\{char}" is no escape; these are: \\" \\\' \\\\ \\*', self._at - 1)
            elif char == "*":
                stars.append(len(chars))
            chars.append(char)
            self._at += 1
        self._at += 1
        return _Value("".join(chars), tuple(stars), start)

    def _spaces(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1

    def _refuse(self, why: str, at: int | None = None) -> NoReturn:
        place = (self._at if at is None else at) + 1
        raise invalid_argument(f"Invalid filter {self._text!r}: at character {place}, {why}.")


def _moment(text: str) -> int | None:
    moment = Timestamp()
    if not _RFC3339.fullmatch(text):
        return None
    try:
        moment.FromJsonString(text)
    except ValueError:  # the 30th of February
        return None
    return nanoseconds(moment)


def _last(name: str) -> str:
    return name.rpartition("/")[2].partition("@")[0]


def _enum_name(message: Any, path: str) -> str:
    above, _, name = path.rpartition(".")
    owner = value_at(message, above) if above else message
    number = getattr(owner, name)
    value = owner.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(number)
    return value.name if value else str(number)
