"""Where the server listens, against where Vertex AI asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cpr_kit.build.lint import calls
from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.program import PYTHON, Serving, python_file
from cpr_kit.build.lint.servers import FOLLOWERS, FOLLOWS, is_bare
from cpr_kit.build.lint.subject import Subject
from cpr_kit.build.shell import Word
from cpr_kit.contract import DEFAULT_PORT

EXPOSE = Rule(
    "EXPOSE", "EXPOSE says where the server listens; Vertex AI asks the model's first port, 8080 if it names none"
)
PORT = Rule("port", "the server listens on AIP_HTTP_PORT: the model's first port, 8080 if it names none")
ADDRESS = Rule("address", "the server listens on 0.0.0.0, since Vertex AI asks from outside the container")
EXPANSION = Rule(
    "variable", "no shell reads the exec form, and Vertex AI expands $(NAME) in a model's command and arguments alone"
)
PRIVILEGED = Rule("privileged port", "a user other than root may be refused a port below 1024")

_LOOPBACK = re.compile(r"(?:127\.\d+\.\d+\.\d+|localhost|\[?::1\]?)\Z")
_EXPOSED = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?\Z", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\w|\{|\()")
_FIRST_FREE = 1024
_MAX = 65535


@dataclass(frozen=True)
class Listening:
    """An address as the start command gives it; None for a part that it leaves out or that cannot be known."""

    host: str | None
    port: int | None
    line: int


def find(subject: Subject) -> Iterator[Finding]:
    yield from _exposed(subject)
    for serving in subject.serving:
        yield from _listens(subject, serving)
    yield from _called(subject)
    yield from _unexpanded(subject)
    yield from _unset(subject)
    if subject.is_unprivileged and subject.port < _FIRST_FREE and subject.recipe.user is not None:
        line = subject.recipe.user.instruction.line
        detail = f"user {subject.user} is to listen on port {subject.port}"
        yield PRIVILEGED.note(line, detail, "choose a port from 1024 up: [image] ports, or --container-port")


def _exposed(subject: Subject) -> Iterator[Finding]:
    ports: list[range] = []
    first = None
    for step in subject.recipe.steps:
        if step.instruction.keyword != "EXPOSE":
            continue
        for word in step.instruction.words:
            text = step.expanded(word.text)
            if text is None:
                return  # only the build's arguments tell
            for part in text.split():
                match = _EXPOSED.match(part)
                if match is None or not 0 < int(match.group(1)) <= _MAX:
                    yield EXPOSE.breach(word.line, f'EXPOSE "{part[:40]}" is no port', f"EXPOSE {subject.port}")
                elif (match.group(3) or "tcp").lower() == "tcp":
                    ports.append(range(int(match.group(1)), int(match.group(2) or match.group(1)) + 1))
                    first = first or word.line
    if first is None or any(subject.port in each for each in ports):
        return
    named = ", ".join(str(each.start) for each in ports)
    detail = f"EXPOSE {named}, and Vertex AI asks {subject.port}"
    instead = f"EXPOSE {subject.port}; or say that port: [image] ports = [{ports[0].start}], or --container-port"
    yield EXPOSE.found("note" if _follows(subject) else "breach", (first, ""), detail, instead)


def _follows(subject: Subject) -> bool:
    """Whether the start reads AIP_HTTP_PORT, as far as its words and its file show."""
    if any(serving.name in FOLLOWERS for serving in subject.serving):
        return True
    for command in subject.program.commands if subject.program is not None else ():
        if any(FOLLOWS in (word.raw or word.text) for word in (*command.words, *command.assignments)):
            return True
        file = python_file(command)
        if file is not None and re.search(rf"{FOLLOWS}|\bModelServer\b", subject.text_at(file.text)):
            return True
    return False


def _listens(subject: Subject, serving: Serving) -> Iterator[Finding]:
    server, path = serving.server, serving.command.path
    listening = _listening(subject, serving)
    if listening is None:
        return
    where = f"{serving.name} listens on"
    if listening.host is not None and _LOOPBACK.match(listening.host):
        how = "" if _given(serving) else ", which is its default"
        detail = f"{where} {listening.host}{how}"
        option = (server.binds or server.hosts or ("--host",))[0]
        value = f"{option} 0.0.0.0" + (f":{subject.port}" if server.binds else "")
        yield ADDRESS.breach(listening.line, detail, value, path=path)
    if listening.port is not None and listening.port != subject.port:
        detail = f"{where} port {listening.port}, and Vertex AI asks {subject.port}"
        option = (server.binds or server.ports or ("--port",))[0]
        instead = (
            f'{option} {"0.0.0.0:" if server.binds else ""}{subject.port}; or read it: sh -c "exec ... ${FOLLOWS}"'
        )
        yield PORT.breach(listening.line, detail, f"{instead}; or [image] ports = [{listening.port}]", path=path)
    elif listening.port not in (None, DEFAULT_PORT):
        detail = f"{where} port {listening.port} whatever {FOLLOWS} says, so each upload must name that port"
        yield PORT.note(listening.line, detail, f'read it: sh -c "exec ... ${FOLLOWS}"', path=path)


def _called(subject: Subject) -> Iterator[Finding]:
    """The same for a Python file that makes its server listen itself."""
    for command in subject.program.commands if subject.program is not None else ():
        file = python_file(command)
        read = subject.tree_at(file.text) if file is not None else None
        for call in calls.read(read[1]) if read is not None else ():
            path = read[0] if read is not None else ""
            if call.host is not None and _LOOPBACK.match(call.host):
                detail = f"{call.name} listens on {call.host}"
                yield ADDRESS.breach(call.line, detail, 'host="0.0.0.0"', path=path)
            if call.port is not None and call.port != subject.port:
                detail = f"{call.name} listens on port {call.port}, and Vertex AI asks {subject.port}"
                yield PORT.breach(call.line, detail, f'port=int(os.environ["{FOLLOWS}"])', path=path)


def _unset(subject: Subject) -> Iterator[Finding]:
    """`--bind :$PORT`: Cloud Run sets PORT, Vertex AI does not."""
    if "PORT" in subject.environment or not is_bare(subject.recipe.base):
        return
    for serving in subject.serving:
        for word in serving.arguments:
            if word.raw is not None and re.search(r"\$(?:PORT\b|\{PORT\})", word.raw):
                detail = "nothing sets PORT: Cloud Run does, Vertex AI does not"
                yield PORT.breach(word.line, detail, f"${FOLLOWS}", path=serving.command.path)


def _given(serving: Serving) -> bool:
    options = (*serving.server.hosts, *serving.server.binds)
    return any(word.text.partition("=")[0] in options for word in serving.arguments)


def _listening(subject: Subject, serving: Serving) -> Listening | None:
    """None where a file, a socket or a variable decides, so that these words do not tell."""
    server = serving.server
    names = [word.text.partition("=")[0] for word in serving.arguments]
    if any(name in server.configs for name in names):
        return None
    if server.variables.get("all") in subject.environment or (server.binds and subject.has("gunicorn.conf.py")):
        return None
    host, port = _defaults(subject, serving)
    line = serving.command.line
    for option, value, word in _options(subject, serving):
        if option in server.ports:
            port, line = _number(value), word.line
        elif option in server.hosts:
            host, line = value, word.line
        elif option in server.binds:
            (host, port), line = _address(value), word.line
    return Listening(host, port, line)


def _defaults(subject: Subject, serving: Serving) -> tuple[str | None, int | None]:
    """Where it listens when its options do not say: what ENV says, or the server's own place."""
    server, given = serving.server, subject.environment
    host, port = server.host, server.port
    for_host, for_port = server.variables.get("host", ""), server.variables.get("port", "")
    if for_port in given:
        port = _number(given[for_port])
        host = "0.0.0.0" if server.binds else host  # noqa: S104 - gunicorn's rule for PORT
    if for_host in given:
        host = given[for_host]
    first = serving.arguments[0].text if serving.arguments else ""
    if serving.name == "http.server" and first.isdecimal():
        port = int(first)
    if serving.name == "fastapi" and first == "dev":
        host = "127.0.0.1"
    return host, port


def _options(subject: Subject, serving: Serving) -> Iterator[tuple[str, str | None, Word]]:
    """`--name value`, `--name=value` and `-nvalue`, each with its value as the program gets it."""
    short = [each for each in (*serving.server.ports, *serving.server.binds) if not each.startswith("--")]
    words = serving.arguments
    for place, word in enumerate(words):
        name, separator, _ = word.text.partition("=")
        value = subject.value(word)
        if separator and name.startswith("-"):
            yield name, value.partition("=")[2] if value is not None else None, word
        elif word.text.startswith("-") and place + 1 < len(words):
            yield word.text, subject.value(words[place + 1]), words[place + 1]
        for each in short:
            if re.match(rf"{each}[\d\[]", word.text):
                yield each, word.text.removeprefix(each), word


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def _address(text: str | None) -> tuple[str | None, int | None]:
    """`host:port`, `:port`, `port`; a socket's path and an unknown word tell nothing."""
    if text is None or text.startswith(("unix:", "fd:")):
        return None, None
    host, separator, port = text.rpartition(":")
    if not separator:
        return (None, int(text)) if text.isdecimal() else (text, None)
    return host or None, _number(port)


def _unexpanded(subject: Subject) -> Iterator[Finding]:
    """`["server", "--port", "$AIP_HTTP_PORT"]`: the program gets the name in place of the number."""
    for command in subject.program.commands if subject.program is not None else ():
        is_python = bool(command.words) and bool(PYTHON.match(command.texts[0].rpartition("/")[2]))
        if is_python and "-c" in command.texts:
            continue
        for word in command.words:
            if word.raw is None and _VARIABLE.search(word.text):
                text = word.text[:60]
                instead = 'sh -c "exec ..." where a shell is wanted, or command and args of the model with $(NAME)'
                kind = EXPANSION.breach if "AIP_" in text or subject.serving else EXPANSION.note
                yield kind(word.line, f"{text} reaches the program as it stands", instead)
