"""What the image's environment says that Vertex AI says otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.subject import Subject

AIP = Rule(
    "AIP variable",
    "Vertex AI sets a container's AIP_* variables, and no image and no model may (custom container requirements)",
)
_PREFIX = "AIP_"
_INSTEAD = "remove it; the server reads what Vertex AI sets, and `cpr run` sets the same"


def find(subject: Subject) -> Iterator[Finding]:
    for step in subject.recipe.steps:
        keyword = step.instruction.keyword
        for pair in step.instruction.pairs if keyword in ("ENV", "ARG") else ():
            if not pair.name.startswith(_PREFIX):
                continue
            if keyword == "ENV" and step.expanded(pair.value or "") == "":
                continue  # this undoes what a base says, as far as a Dockerfile can
            if keyword == "ENV":
                yield AIP.breach(pair.line, f"ENV sets {pair.name}", _INSTEAD)
            else:
                detail = f"ARG {pair.name} has the platform's name, and no say where the container runs"
                yield AIP.note(pair.line, detail, "give the argument another name")
    yield from _at_start(subject)


def _at_start(subject: Subject) -> Iterator[Finding]:
    """`AIP_HTTP_PORT=80 server` and `export AIP_...=`; `${AIP_HTTP_PORT:-8080}` is a default and no fault."""
    for command in subject.program.commands if subject.program is not None else ():
        words = command.words[1:] if command.texts[:1] in (("export",), ("env",)) else ()
        for word in (*command.assignments, *words):
            name, separator, value = word.text.partition("=")
            if name.startswith(_PREFIX) and separator and name not in value:
                yield AIP.breach(word.line, f"the start sets {name}", _INSTEAD, path=command.path)
