"""What a look at a Dockerfile says of a FastAPI application and of its base's start script."""

from pathlib import Path

import pytest

from cpr_kit.build.lint import application, look

SERVE = Path(__file__).parents[1] / "containers" / "fastapi_serve"
BASE = "FROM tiangolo/uvicorn-gunicorn-fastapi:python3.9\nCOPY app /app\n"


def health(body, decorator='app.get("/health")', kind="def"):
    return [each.line for each in application.health(f"@{decorator}\n{kind} health():\n    {body}\n")]


def test_the_tutorials_folder():
    found = look.at(SERVE / "Dockerfile", context=SERVE, port=7080).findings
    assert {(each.path, each.line, each.name, each.severity) for each in found} >= {
        ("", 7, "port", "note"),
        ("", 7, "prestart", "note"),
        ("app/prestart.sh", 1, "prestart", "note"),
        ("app/main.py", 11, "health", "note"),
    }
    prestart = next(each for each in found if each.name == "prestart" and not each.path)
    assert "this CMD replaces that" in prestart.detail


@pytest.mark.parametrize(
    "body",
    [
        'return {"status": "healthy"}',
        "return Response(status_code=200)",
        "pass",
        '"""Up."""',
        "return fastapi.Response()",
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_health_route_that_looks_at_nothing(body, kind):
    assert health(body, kind=kind) == [2]


@pytest.mark.parametrize(
    ("body", "decorator"),
    [
        ('return {"loaded": model is not None}', 'app.get("/health")'),
        ("return Response(status_code=200 if model else 503)", 'app.get("/health")'),
        ("return check()", 'app.get("/health")'),
        ("raise HTTPException(503)", 'app.get("/health")'),
        ("return {}", 'app.get("/labels")'),
        ("return {}", 'app.post("/health")'),
    ],
)
def test_one_that_does_and_what_is_no_health_route(body, decorator):
    assert health(body, decorator) == []


@pytest.mark.parametrize(
    "decorator", ['app.get(os.environ["AIP_HEALTH_ROUTE"])', 'app.get(path="/ping")', "router.get(HEALTH_ROUTE)"]
)
def test_the_ways_to_name_it(decorator):
    assert health("return {}", decorator) == [2]


def test_what_is_no_python_is_passed_over():
    assert list(application.health("def (")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE + 'CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8080"]\n', 1),
        (BASE, 0),
        (BASE + 'CMD ["/start.sh"]\n', 0),
        (BASE + 'CMD ["sh", "-c", ". /app/prestart.sh && exec uvicorn main:app --host 0.0.0.0 --port $PORT"]\n', 0),
        (BASE.replace("tiangolo/uvicorn-gunicorn-fastapi:python3.9", "mine:1") + 'CMD ["uvicorn", "main:app"]\n', 0),
    ],
)
def test_a_start_script_that_is_replaced(tmp_path, text, expected):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "prestart.sh").write_text("#!/bin/sh\nPORT=$AIP_HTTP_PORT\n")
    (tmp_path / "Dockerfile").write_text(text)
    found = look.at(tmp_path / "Dockerfile", context=tmp_path).findings
    assert len([each for each in found if each.name == "prestart"]) == expected


@pytest.mark.parametrize(("port", "expected"), [("7080", ["note"]), ("8080", []), ("$AIP_HTTP_PORT", [])])
def test_a_port_that_no_variable_can_change(tmp_path, port, expected):
    asked = int(port) if port.isdecimal() else 8080
    start = f'CMD ["sh", "-c", "exec uvicorn main:app --host 0.0.0.0 --port {port}"]\n'
    (tmp_path / "Dockerfile").write_text(BASE + start)
    found = look.at(tmp_path / "Dockerfile", port=asked).findings
    assert [each.severity for each in found if each.name == "port"] == expected
