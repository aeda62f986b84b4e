"""A web application and its base's start script, looked at before either runs: what would start, and yet not serve."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from cpr_kit.build.lint.finding import Finding, Rule
from cpr_kit.build.lint.program import Serving
from cpr_kit.build.lint.servers import repository
from cpr_kit.build.lint.subject import Subject

HEALTH = Rule(
    "health", "Vertex AI sends requests once the health route answers 200, so it may not before the model is there"
)
PRESTART = Rule("prestart", "prestart.sh is run by the start script of the base, and a CMD of your own takes its place")

_SCRIPT = "prestart.sh"
_STARTERS = ("start.sh", "start-reload.sh", "start-gunicorn.sh")
"""What uvicorn-gunicorn-docker and the images made from it start with: it runs prestart.sh first."""
_BASES = re.compile(r"(?:^|/)(?:uvicorn-gunicorn|meinheld-gunicorn)")
_HEALTH = re.compile(r"health|/ping\b|/ready|/alive|/live", re.IGNORECASE)
_APPLICATION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*(?:\(\))?\Z")
_ANSWERS = re.compile(r"(?:\w+\.)*(?:\w*Response|dict|status(?:\.\w+)?)\Z")


def find(subject: Subject) -> Iterator[Finding]:
    yield from _prestart(subject)
    for serving in subject.serving:
        for path in _modules(subject, serving):
            text = subject.files.text(path) if subject.files is not None else None
            for finding in health(text or ""):
                yield HEALTH.note(finding.line, finding.detail, finding.instead, path=path)


def health(text: str) -> Iterator[Finding]:
    """The health routes of a Python file that answer the same whatever became of the model."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not _is_constant(node.body):
            continue
        if any(map(_is_health, node.decorator_list)):
            detail = f'"{node.name}" answers the same whether the model is there or not'
            yield HEALTH.note(node.lineno, detail, "answer 503 until it is; or mount create_app, which does")


def _is_health(decorator: ast.expr) -> bool:
    """`@app.get("/health")`, `@router.get(os.environ["AIP_HEALTH_ROUTE"])`, `@app.route(HEALTH_ROUTE)`."""
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return False
    routes = [*decorator.args[:1], *(each.value for each in decorator.keywords if each.arg in ("path", "rule"))]
    is_route = decorator.func.attr in ("get", "route", "api_route")
    return is_route and any(_HEALTH.search(ast.unparse(route)) for route in routes)


def _is_constant(body: list[ast.stmt]) -> bool:
    """Whether all it does is to give back what is written there."""
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if any(not isinstance(each, ast.Return | ast.Pass) for each in body):
        return False
    used = [node for each in body for node in ast.walk(each) if isinstance(node, ast.Name | ast.Attribute)]
    inner = {id(node.value) for node in used if isinstance(node, ast.Attribute)}
    return all(_ANSWERS.match(ast.unparse(node)) for node in used if id(node) not in inner)


def _prestart(subject: Subject) -> Iterator[Finding]:
    base, program, files = subject.recipe.base, subject.program, subject.files
    named = subject.recipe.cmd or subject.recipe.entrypoint
    if base is None or program is None or named is None or files is None or not _BASES.search(repository(base)):
        return
    words = [word for command in program.commands for word in command.texts]
    script = next((name for name in files.names() if name.rpartition("/")[2] == _SCRIPT), None)
    if script is None or any(word.rpartition("/")[2] in (_SCRIPT, *_STARTERS) for word in words):
        return
    detail = f"{script} never runs: {base} runs it from its own start script, and this {named.keyword} replaces that"
    yield PRESTART.note(named.line, detail, f"remove {named.keyword}; or do in it what {_SCRIPT} is to do")
    text = files.text(script) or ""
    if "#!" in text and not text.startswith("#!"):
        detail = "its first line is empty, so no #! names its shell"
        yield PRESTART.note(1, detail, "begin the file with #!", path=script)


def _modules(subject: Subject, serving: Serving) -> Iterator[str]:
    """The file of each `module:name` that a server is given; where it is copied to, only the module's name tells."""
    if subject.files is None:
        return
    for word in serving.arguments:
        match = _APPLICATION.match(word.text)
        if match is None:
            continue
        wanted = f"{match[1].replace('.', '/')}.py"
        names = [name for name in subject.files.names() if name == wanted or name.endswith(f"/{wanted}")]
        yield from names[:1]
