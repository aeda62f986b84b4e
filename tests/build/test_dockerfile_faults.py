"""Each rule: what it says, on which line, and where it says nothing."""

import contextlib
import importlib
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.build.dockerfile import parse
from cpr_kit.build.lint import look
from cpr_kit.build.lint.files import Files
from cpr_kit.build.lint.finding import Rule
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build

ROOT = Path(__file__).parents[2]
LINT = ROOT / "cpr_kit/build/lint"
SEEDED = Path(__file__).parent / "dockerfiles"

HEAD = "FROM python:3.11-slim\nWORKDIR /usr/app\n"
KIT = "RUN python -m pip install --no-cache-dir cpr-kit uvicorn gunicorn flask\n"
TAIL = 'USER 65534:65534\nENTRYPOINT ["python", "-m", "cpr_kit.runtime"]\n'
SOUND = HEAD + KIT + TAIL


@pytest.fixture
def found(tmp_path):
    """found(text, files, port=...) -> (line, severity, name) of all that is found; files are the context's."""

    def run(text, files=None, **options):
        for name, content in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (tmp_path / "Dockerfile").write_text(text)
        run.look = look.at(tmp_path / "Dockerfile", context=tmp_path if files is not None else None, **options)
        return [
            (f"{each.path}:{each.line}" if each.path else each.line, each.severity, each.name)
            for each in run.look.findings
        ]

    return run


def starts(command, before=""):
    """A file whose start command stands on line 5."""
    return HEAD + KIT + f"USER 65534\n{before}{command}\n"


# --- the seeded files ------------------------------------------------------------------------------------------------


def seeded(name):
    folder = SEEDED / name
    return [(each.line, each.severity, each.name) for each in look.at(folder / "Dockerfile", context=folder).findings]


def test_eight_faults_of_one_file_each_on_its_line():
    assert seeded("faults") == [
        (4, "breach", "secret"),
        (5, "breach", "root's folder"),
        (6, "breach", "AIP variable"),
        (8, "breach", "AIP variable"),
        (10, "note", "order"),
        (16, "breach", "EXPOSE"),
        (17, "breach", "missing package"),
        (17, "breach", "signals"),
        (17, "breach", "start"),
    ]


@pytest.mark.parametrize("name", ["sound", "multi_stage"])
def test_nothing_is_found_where_nothing_is_wrong(name):
    assert seeded(name) == []


def test_the_tutorials_own_dockerfile():
    """Old Python, root, and an edit that installs again; its mode 777 is its own affair."""
    assert seeded("cpr_tutorial") == [(1, "note", "Python"), (1, "note", "user"), (7, "note", "order")]


def test_the_tutorial_without_the_sdk_in_its_requirements(tmp_path):
    """As its later versions have it: what the entry point imports is nowhere installed."""
    shutil.copytree(SEEDED / "cpr_tutorial", tmp_path, dirs_exist_ok=True)
    (tmp_path / "src/requirements.txt").write_text("fastapi\nuvicorn\nscikit-learn\n")
    (missing,) = [
        each for each in look.at(tmp_path / "Dockerfile", context=tmp_path).findings if each.severity == "breach"
    ]
    assert (missing.path, missing.line, missing.name) == ("src/entrypoint.py", 3, "missing package")
    assert "google-cloud-aiplatform[prediction]" in missing.instead
    assert "cpr-kit" in missing.instead


KITS_OWN = [*ROOT.glob("templates/*/Dockerfile"), ROOT / "Dockerfile.base", *ROOT.glob("containers/*/Dockerfile")]


@pytest.mark.parametrize("path", KITS_OWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_kits_own_files_break_no_rule(path):
    context = path.parent if (path.parent / "cpr.toml").exists() else None
    assert [each for each in look.at(path, context=context).findings if each.severity == "breach"] == []


# --- environment -----------------------------------------------------------------------------------------------------


def test_aip_variables(found):
    assert found(SOUND.replace("USER", "ENV A=1 \\\n  AIP_MODE=x\nARG AIP_HTTP_PORT\nUSER")) == [
        (5, "breach", "AIP variable"),
        (6, "note", "AIP variable"),
    ]
    assert found(SOUND.replace("USER", "ENV AIP_STORAGE_URI=\nUSER")) == []
    assert found(starts('CMD ["sh", "-c", "AIP_HTTP_PORT=80 exec python -m cpr_kit.runtime"]')) == [
        (5, "breach", "AIP variable")
    ]
    script = (
        "#!/bin/sh\nexport AIP_HTTP_PORT=${AIP_HTTP_PORT:-8080}\nexport AIP_MODE=X\nexec python -m cpr_kit.runtime\n"
    )
    assert found(starts("COPY run.sh .\n" + 'CMD ["sh", "run.sh"]'), {"run.sh": script}) == [
        ("run.sh:3", "breach", "AIP variable")
    ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ENV API_TOKEN=abc", "secret"),
        ("ENV DB_PASSWORD abc", "secret"),
        ("ENV OPENAI_API_KEY=x", "secret"),
        ("ARG PIP_SECRET", "secret"),
        ("ARG aws_secret_access_key=x", "secret"),
        ("ENV GOOGLE_APPLICATION_CREDENTIALS=/usr/app/key.json", "credentials"),
        ("LABEL a=AIza" + "b" * 35, "secret"),
        ("RUN echo ghp_" + "a" * 36, "secret"),
        ("RUN pip install --no-cache-dir --extra-index-url https://me:word@pypi.example/simple flask", "secret"),
        ("ENV K='-----BEGIN RSA PRIVATE KEY-----'", "secret"),
        ("COPY id_rsa /root/.ssh/", "key file"),
        ("COPY secrets/service-account.json /x/", "key file"),
        ("COPY .env server.pem /x/", "key file"),
    ],
)
def test_secrets_are_found_and_never_shown(found, line, name):
    names = [
        each
        for each in found(SOUND.replace("USER", f"{line}\nUSER"))
        if each[2] in ("secret", "credentials", "key file")
    ]
    assert set(names) == {(4, "breach", name)}
    for each in found.look.findings:
        assert "word@" not in str(each)
        assert "ghp_a" not in str(each)


@pytest.mark.parametrize(
    "line",
    [
        "ENV TOKENIZERS_PARALLELISM=false",
        "ENV MAX_TOKENS=512",
        "ENV TOKEN_LIMIT=512",
        "ENV PAD_TOKEN='<pad>' MASK_TOKEN=[MASK]",
        "ENV SECRET_NAME=projects/1/secrets/x",
        "ENV DB_PASSWORD_FILE=/run/secrets/db",
        "ENV API_TOKEN=",
        "ENV GOOGLE_APPLICATION_CREDENTIALS=",
        "RUN --mount=type=secret,id=token pip install --no-cache-dir flask",
        "RUN pip install --no-cache-dir -i https://user:${PASS}@pypi.org/simple flask",
        "COPY ca.pem /etc/ssl/",
        "COPY .env.example /x/",
        "ENV MONKEY=1 KEYBOARD=x",
    ],
)
def test_what_only_sounds_like_a_secret(found, line):
    assert found(SOUND.replace("USER", f"{line}\nUSER")) == []


def test_a_secret_in_a_stage_that_is_thrown_away_is_a_note(found):
    text = "FROM python:3.11-slim AS build\nARG TOKEN\nCOPY .netrc /root/\n" + SOUND
    assert found(text) == [(2, "note", "secret"), (3, "note", "key file")]


def test_key_files_that_a_folder_takes_with_it(found):
    text = SOUND.replace("USER", "COPY . .\nUSER")
    files = {
        ".env": "A=1",
        "deep/credentials.json": '{"private_key": "x"}',
        "ca.pem": "-----BEGIN CERTIFICATE-----",
        "a.py": "",
    }
    assert found(text, files) == [(4, "breach", "key file"), (4, "breach", "key file")]
    assert {
        "of . takes .env" in each.detail or "deep/credentials.json" in each.detail for each in found.look.findings
    } == {True}
    kept = {**files, ".dockerignore": ".env\n**/credentials.json\n"}
    assert found(text, kept) == []
    assert found(text, {**kept, "folder.pem/readme.txt": "", "id_rsa/readme.txt": ""}) == []


# --- ports -----------------------------------------------------------------------------------------------------------


def test_expose_against_the_port(found):
    exposed = starts('CMD ["other"]', "EXPOSE 9000 \\\n  5000/tcp 53/udp\n")
    assert found(exposed) == [(5, "breach", "EXPOSE")]
    assert found(exposed, port=5000) == []
    assert found(starts('CMD ["other"]', "EXPOSE 8000-8090\n")) == []
    assert found(starts('CMD ["other"]', "ARG P\nEXPOSE $P\n")) == []
    assert found(starts('CMD ["other"]', "ARG P=81\nEXPOSE $P\n")) == [(6, "breach", "EXPOSE")]
    assert found(starts('CMD ["other"]', "EXPOSE http\n")) == [(5, "breach", "EXPOSE")]
    # The kit's server listens where Vertex AI says, whatever EXPOSE says.
    assert found(SOUND.replace("USER", "EXPOSE 5000\nUSER")) == [(4, "note", "EXPOSE")]
    own = starts('CMD ["python", "main.py"]', "EXPOSE 81\nCOPY main.py .\n")
    assert found(own, {"main.py": "port = os.environ['AIP_HTTP_PORT']"}) == [(5, "note", "EXPOSE")]
    assert found(own, {"main.py": "port = 81"}) == [(5, "breach", "EXPOSE")]
    shell = starts('CMD ["sh", "-c", "exec other $AIP_HTTP_PORT"]', "EXPOSE 81\n")
    assert found(shell) == [(5, "note", "EXPOSE")]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ('CMD ["uvicorn", "m:a", "--host", "0.0.0.0", "--port", "80"]', ["port"]),
        ('CMD ["uvicorn", "m:a", "--host=0.0.0.0", "--port=8080"]', []),
        ('CMD ["uvicorn", "m:a", "--host=127.0.0.1", "--port=8080"]', ["address"]),
        ('CMD ["uvicorn", "m:a"]', ["address", "port"]),
        ('CMD ["python3.11", "-m", "uvicorn", "m:a", "--host", "::"]', ["port"]),
        ('CMD ["gunicorn", "-b", "0.0.0.0:5000", "m:a"]', ["port"]),
        ('CMD ["gunicorn", "-b0.0.0.0:5000", "m:a"]', ["port"]),
        ('CMD ["gunicorn", "--bind", ":8080", "m:a"]', []),
        ('CMD ["gunicorn", "--bind=unix:/tmp/s", "m:a"]', []),
        ('CMD ["gunicorn", "m:a"]', ["address", "port"]),
        ('CMD ["gunicorn", "-c", "conf.py", "m:a"]', []),
        ('CMD ["flask", "run", "-p", "8080", "-h", "0.0.0.0"]', []),
        ('CMD ["flask", "run", "-p", "8080", "--host", "localhost"]', ["address"]),
        ('CMD ["flask", "--help"]', ["start"]),
        ('CMD ["python", "-m", "http.server", "8080"]', []),
        ('CMD ["python", "-m", "http.server"]', ["port"]),
        ('CMD ["uvicorn", "m:a", "--host", "0.0.0.0", "--port", "$AIP_HTTP_PORT"]', ["variable"]),
        ('CMD ["sh", "-c", "exec uvicorn m:a --host 0.0.0.0 --port $AIP_HTTP_PORT"]', []),
        ('CMD ["sh", "-c", "exec uvicorn m:a --host 0.0.0.0 --port ${AIP_HTTP_PORT:-8080}"]', []),
        ('CMD ["sh", "-c", "exec uvicorn m:a --host 0.0.0.0 --port ${PORT:-5000}"]', ["port"]),
        ("CMD exec uvicorn m:a --host 0.0.0.0 --port 8000", ["port"]),
        ('CMD ["conda", "run", "-n", "env", "uvicorn", "m:a", "--host=::", "--port=81"]', ["port"]),
        ('CMD ["poetry", "run", "uvicorn", "m:a", "--host=::", "--port=81"]', ["port"]),
        ('CMD ["gosu", "app", "uvicorn", "m:a", "--host=::", "--port=81"]', ["port"]),
        ('CMD ["env", "A=1", "uvicorn", "m:a", "--host=::", "--port=81"]', ["port"]),
        ('CMD ["tini", "--", "uvicorn", "m:a", "--host", "0.0.0.0", "--port", "8080"]', []),
    ],
)
def test_where_the_server_listens(found, command, names):
    findings = found(starts(command))
    assert [name for _, _, name in findings] == names
    assert {(line, severity) for line, severity, _ in findings} <= {(5, "breach")}


def test_a_port_is_shown_on_the_line_that_says_it(found):
    text = starts('ENTRYPOINT ["uvicorn", "m:a", \\\n  "--host", "0.0.0.0"]\nCMD ["--port", \\\n  "80"]')
    assert found(text) == [(8, "breach", "port")]
    env = starts("CMD exec flask run", "ENV FLASK_RUN_HOST=0.0.0.0 FLASK_RUN_PORT=81\n")
    assert found(env) == [(6, "breach", "port")]
    assert found(starts("CMD exec gunicorn m:a", "ENV PORT=8080\n")) == []


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import uvicorn\nuvicorn.run(app)", ["address", "port"]),
        ("import uvicorn\nuvicorn.run(app, host='0.0.0.0', port=8080)", []),
        ("import uvicorn, os\nuvicorn.run(app, host='0.0.0.0', port=int(os.environ['AIP_HTTP_PORT']))", []),
        ("import uvicorn\nuvicorn.run(app, **options)", []),
        ("import uvicorn\nuvicorn.run(app, uds='/tmp/s')", []),
        ("from flask import Flask\napp = Flask(__name__); app.run('0.0.0.0', 81)", ["port"]),
        ("import other\nother.run(app)", []),
    ],
)
def test_where_a_python_file_makes_it_listen(found, code, names):
    text = starts('CMD ["python", "main.py"]', "COPY main.py .\n")
    assert found(text, {"main.py": code}) == [("main.py:2", "breach", name) for name in names]


def test_cloud_runs_port(found):
    assert found(starts("CMD exec gunicorn --bind :$PORT m:a")) == [(5, "breach", "port")]
    assert found(starts("CMD exec gunicorn --bind :$PORT m:a", "ENV PORT=8080\n")) == []
    assert found(starts("CMD exec gunicorn --bind :${PORT:-8080} m:a")) == []


def test_a_low_port_for_a_user_other_than_root(found):
    assert found(SOUND, port=80) == [(4, "note", "privileged port")]
    assert "privileged port" not in str(found(SOUND.replace("65534:65534", "0"), port=80))


# --- packages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "install", "command", "severity"),
    [
        ("python:3.11-slim", "pip install --no-cache-dir flask", '["python", "-m", "cpr_kit.runtime"]', "breach"),
        ("docker.io/library/python:3.11", "pip install --no-cache-dir fastapi", '["fastapi", "run", "--port", "8080"]', "breach"),
        ("python:3.11", "pip install --no-cache-dir 'fastapi[standard]'", '["fastapi", "run", "--port", "8080"]', None),
        ("mine/base:1", "true", '["python", "-m", "cpr_kit.runtime"]', "note"),
        ("tiangolo/uvicorn-gunicorn:3", "true", '["uvicorn", "m:a", "--host=::", "--port=8080"]', None),
        ("us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest", "true", '["python", "-m", "cpr_kit.runtime"]', None),
        ("python:3.11", "pip install --no-cache-dir -r r.txt", '["gunicorn", "-b:8080", "m:a"]', None),
        ("python:3.11", "pip install --no-cache-dir -r gone.txt", '["gunicorn", "-b:8080", "m:a"]', None),
        ("python:3.11", "pip install --no-cache-dir .", '["gunicorn", "-b:8080", "m:a"]', None),
        ("python:3.11", "sh install.sh", '["gunicorn", "-b:8080", "m:a"]', None),
        ("python:3.11", "pip install --no-cache-dir -i https://pypi.mine/simple x", '["gunicorn", "-b:8080", "m:a"]', None),
        ("python:3.11", "uv pip install --system uvicorn", '["uvicorn", "m:a", "--host=::", "--port=8080"]', None),
        ("debian:12", "apt-get install -y python3-flask", '["flask", "run", "-h", "::", "-p", "8080"]', None),
        ("debian:12", "apt-get install -y python3", '["flask", "run", "-h", "::", "-p", "8080"]', "breach"),
        ("condaforge/miniforge3:1", "conda install -y gunicorn", '["gunicorn", "-b:8080", "m:a"]', None),
        ("python:3.11", "pip install --no-cache-dir gunicorn", '["gunicorn", "-b:8080", "-k", "uvicorn.workers.UvicornWorker", "m:a"]', "breach"),
        ("python:3.11", "pip install --no-cache-dir google-cloud-aiplatform", '["python", "-m", "google.cloud.aiplatform.prediction.model_server"]', "breach"),
        ("python:3.11", "pip install --no-cache-dir 'google-cloud-aiplatform[prediction]'", '["python", "-m", "google.cloud.aiplatform.prediction.model_server"]', None),
        ("python:3.11", "pip install --no-cache-dir cpr-kit", '["python", "-m", "google.cloud.aiplatform.prediction.model_server"]', None),
    ],
)  # fmt: skip
def test_what_starts_must_be_installed(found, base, install, command, severity):
    text = f"FROM {base}\nWORKDIR /x\nCOPY *.txt ./\nRUN {install}\nUSER 1\nCMD {command}\n"
    names = [each for each in found(text, {"r.txt": "numpy\ngunicorn==23\n"}) if each[2] == "missing package"]
    assert names == ([(6, severity, "missing package")] if severity else [])


@pytest.mark.parametrize(
    "line",
    [
        "COPY --from=ghcr.io/mine/tools:1 /venv /venv",
        "COPY --from=other /venv /venv",
        "COPY dist/*.whl /tmp/",
        "ADD https://x.example/venv.tar.gz /venv",
        "COPY venv/lib/site-packages /venv",
        "ONBUILD RUN pip install flask",
        "COPY .cpr/ /tmp/kit/",
    ],
)
def test_what_nobody_can_see_may_bring_it(found, line):
    text = "FROM mine/x:1 AS other\n" + SOUND.replace("cpr-kit uvicorn gunicorn flask", "numpy").replace(
        "USER", f"{line}\nUSER"
    )
    assert "missing package" not in str(found(text))
    assert "missing package" in str(found(text.replace(line, "RUN true")))


def test_what_the_started_file_imports_must_be_installed(found):
    text = HEAD + "RUN pip install --no-cache-dir numpy\nCOPY main.py .\nUSER 1\n" + 'CMD ["python", "main.py"]\n'
    assert found(text, {"main.py": "import os\n\nimport cpr_kit\n"}) == [("main.py:3", "breach", "missing package")]
    guarded = "try:\n    import uvicorn\nexcept ImportError:\n    pass\nimport pandas\n"
    assert found(text, {"main.py": guarded}) == []
    assert found(text, {"main.py": "not python ("}) == []


@pytest.mark.parametrize(
    ("base", "install", "severity"),
    [
        ("3.7", "numpy", "note"),
        ("3.9-slim", "cpr-kit", "breach"),
        ("3.10", "cpr-kit", None),
        ("latest", "cpr-kit", None),
    ],
)
def test_an_old_python(found, base, install, severity):
    text = f"FROM python:{base}\nRUN pip install --no-cache-dir {install}\nUSER 1\n" + 'CMD ["other"]\n'
    names = [each for each in found(text) if each[2] == "Python"]
    assert names == ([(1, severity, "Python")] if severity else [])


def test_code_before_requirements(found):
    files = {"requirements.txt": "cpr-kit", "app.py": "", "pyproject.toml": ""}
    early = HEAD + "COPY . .\n{}\n" + TAIL
    install = "RUN pip install --no-cache-dir -r requirements.txt"
    assert found(early.format(install), files) == [(3, "note", "order")]
    assert found(early.format("RUN pip install --no-cache-dir ."), files) == []
    assert found(early.format(install)) == [(3, "note", "order")]
    assert found(early.format(install).replace("COPY . .", "COPY app.py .")) == [(3, "note", "order")]
    assert found(early.format(install).replace("COPY . .", "COPY wheels .")) == []
    assert found(HEAD + f"COPY requirements.txt .\n{install}\nCOPY . .\n" + TAIL, files) == []
    assert found(HEAD + f"COPY *.txt *.toml ./\n{install}\nCOPY app.py .\n" + TAIL, files) == []


def test_pips_cache(found):
    assert found(SOUND.replace("--no-cache-dir ", "")) == [(3, "note", "package cache")]
    assert found(SOUND.replace("--no-cache-dir ", "").replace("RUN", "ENV PIP_NO_CACHE_DIR=1\nRUN")) == []
    assert (
        found(SOUND.replace("--no-cache-dir ", "").replace("RUN", "RUN --mount=type=cache,target=/root/.cache")) == []
    )


# --- user ------------------------------------------------------------------------------------------------------------


def test_root(found):
    assert found(SOUND.replace("USER 65534:65534\n", "")) == [(1, "note", "user")]
    assert found(SOUND.replace("65534:65534", "root")) == [(4, "note", "user")]
    assert found(SOUND.replace("USER", "USER 0\nUSER")) == []
    assert found(SOUND.replace("65534:65534", "$WHO")) == []
    assert found(SOUND.replace("USER 65534:65534\n", "").replace("python:3.11-slim", "mine/x:1")) == [
        (1, "note", "user")
    ]
    assert found(SOUND.replace("USER 65534:65534\n", "").replace("FROM python:3.11-slim", "ARG B\nFROM $B")) == [
        (2, "note", "user")
    ]


@pytest.mark.parametrize(
    ("line", "number", "name"),
    [
        ("WORKDIR /root/app", 4, "root's folder"),
        ("ENV HOME=/root", 4, "root's folder"),
        ("ENV PATH=/root/.local/bin:$PATH", 4, "root's folder"),
        ("USER 1000\nRUN apt-get update && \\\n  apt-get install -y curl", 5, "install"),
    ],
)
def test_what_only_root_can_do(found, line, number, name):
    findings = found(SOUND.replace("USER", f"{line}\nUSER", 1))
    assert findings[0] == (number, "breach", name)
    assert found(SOUND.replace("USER", f"{line}\nUSER", 1).replace("65534:65534", "0").replace("1000", "0")) == [
        (5 + line.count("\n"), "note", "user")
    ]


@pytest.mark.parametrize(
    ("copy", "is_breach"),
    [
        ("COPY --chmod=700 x.py .", True),
        ("COPY --chmod=0640 x.py /usr/app/", True),
        ("COPY --chmod=755 x.py .", False),
        ("COPY --chmod=700 --chown=65534 x.py .", False),
        ("COPY --chmod=700 x.py .\nRUN chown -R 65534 /usr/app", False),
        ("COPY --chmod=600 notes.txt /var/notes/", False),
    ],
)
def test_a_mode_that_the_user_cannot_read(found, copy, is_breach):
    names = [each for each in found(SOUND.replace("USER", f"{copy}\nUSER")) if each[2] == "mode"]
    assert names == ([(4, "breach", "mode")] if is_breach else [])


def test_a_mode_that_docker_build_keeps(found, tmp_path):
    text = SOUND.replace("USER", "COPY src/ ./\nUSER")
    assert found(text, {"src/a.py": "", "src/b.py": ""}) == []
    (tmp_path / "src/b.py").chmod(0o600)
    assert found(text, {}) == [(4, "note", "mode")]
    assert "mode 600 of src/b.py" in found.look.findings[0].detail
    assert found(text.replace("COPY", "COPY --chown=65534"), {}) == []
    assert found(text.replace("COPY", "COPY --chmod=644"), {}) == []
    assert found(text.replace("./\n", "/elsewhere/\n"), {}) == []
    assert found(text.replace("src/ ./", "src/ $X"), {}) == []


def test_logs_in_roots_folders(found):
    command = "CMD exec gunicorn -b :8080 --access-logfile /var/log/app/access.log m:a 2>/dev/null"
    assert found(starts(command)) == [(5, "breach", "root's place")]
    assert found(starts(command, "RUN mkdir -p /var/log/app && chown 65534 /var/log/app\n")) == []
    assert found(starts(command.replace("/var/log/app/access.log", "-"))) == []


# --- start -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        '["bash"]', '["/bin/sh", "-l"]', '["python"]', '["python3", "-i"]', '["echo", "hello"]', '["sleep", "60"]',
        '["service", "nginx", "start"]', '["/etc/init.d/nginx", "start"]', '["supervisord"]', '["nginx"]',
        '["gunicorn", "-b:8080", "--daemon", "m:a"]', '["gunicorn", "-D", "-b:8080", "m:a"]', '["torchserve", "--start"]',
        '["sh", "-c", "exec nohup python serve.py &"]', "exec python serve.py &", "service nginx start",
        '["python", "-m", "pip", "list"]', '["apachectl", "start"]', '["redis-server", "--daemonize", "yes"]',
        '["ray", "start", "--head"]', "[]", '["python", "--version"]',
    ],
)  # fmt: skip
def test_a_start_that_returns(found, command):
    findings = [each for each in found(starts(f"CMD {command}")) if each[2] == "start"]
    assert findings == [(5, "breach", "start")]


@pytest.mark.parametrize(
    "command",
    [
        '["bash", "-c", "exec other"]', '["python", "other.py"]', '["python", "-c", "import other"]', '["supervisord", "-n"]',
        '["nginx", "-g", "daemon off;"]', '["torchserve", "--start", "--foreground"]', '["tail", "-f", "/dev/null"]',
        '["sh", "-c", "trap exit TERM; while true; do sleep 1; done"]', '["npm", "start"]', '["ray", "start", "--block"]',
        '["env", "A=1", "other"]', '["apachectl", "-D", "FOREGROUND"]',
    ],
)  # fmt: skip
def test_a_start_that_stays(found, command):
    assert [each for each in found(starts(f"CMD {command}")) if each[2] == "start"] == []


def test_a_start_below_roots_folder(found):
    assert found(starts('CMD ["/root/bin/serve"]')) == [(5, "breach", "root's folder")]
    assert found(starts('CMD ["/rooted/serve"]')) == []


def test_a_base_that_is_not_known_may_know_better(found):
    """Its ENTRYPOINT may keep the container, as TorchServe's does, or wait for signals."""
    for command in ('CMD ["torchserve", "--start"]', "CMD python serve.py"):
        text = starts(command).replace("python:3.11-slim", "pytorch/torchserve:0.12")
        assert {severity for _, severity, _ in found(text)} == {"note"}
        assert "unless the ENTRYPOINT of pytorch/torchserve:0.12" in found.look.findings[0].detail
        assert {severity for _, severity, _ in found(text.replace("CMD", "ENTRYPOINT"))} == {"breach"}


def test_what_stands_behind_exec_never_runs(found):
    assert found(starts("CMD exec gunicorn -D -b :8080 m:a; tail -f /dev/null")) == [(5, "breach", "start")]


def test_a_daemon_that_its_configuration_keeps(found):
    text = starts('CMD ["supervisord", "-c", "/etc/s.conf"]', "COPY s.conf /etc/\n")
    assert found(text, {"s.conf": "[supervisord]\nnodaemon = true\n"}) == []
    assert found(text, {"s.conf": "[supervisord]\n"}) == [(6, "breach", "start")]


@pytest.mark.parametrize(
    ("base", "severity"),
    [("python:3.11", "breach"), ("ubuntu:24.04", "breach"), ("scratch", "breach"), ("mine/x:1", "note")],
)
def test_nothing_to_start(found, base, severity):
    assert (2, severity, "start") in found(f"FROM x:1 AS y\nFROM {base}\nUSER 1\n")


@pytest.mark.parametrize(
    ("command", "is_breach"),
    [
        ("CMD python serve.py", True),
        ("CMD cd /x && python serve.py", True),
        ("CMD exec python serve.py", False),
        ("CMD cd /x && exec python serve.py", False),
        ('CMD ["python", "serve.py"]', False),
        ('CMD ["sh", "-c", "python serve.py"]', True),
        ('CMD ["/bin/sh", "-ec", "migrate; python serve.py"]', True),
        ('CMD ["sh", "-c", "trap stop TERM; python serve.py & wait"]', False),
        ('CMD ["bash", "-c", "python serve.py"]', False),
        ('CMD ["bash", "-c", "python serve.py & wait"]', True),
        ('CMD ["dumb-init", "sh", "-c", "python serve.py"]', False),
        ('CMD ["tini", "--", "sh", "-c", "python serve.py"]', True),
        ('CMD ["tini", "-g", "--", "sh", "-c", "python serve.py"]', False),
        ('SHELL ["/bin/bash", "-c"]\nCMD python serve.py', False),
    ],
)
def test_a_shell_that_swallows_signals(found, command, is_breach):
    line = 5 + command.count("\n")
    assert found(starts(command)) == ([(line, "breach", "signals")] if is_breach else [])


@pytest.mark.engine
@pytest.mark.parametrize(
    "command",
    [
        "CMD cd /tmp && sleep 60",
        "CMD exec sleep 60",
        'CMD ["bash", "-c", "sleep 60"]',
        'CMD ["bash", "-c", "sleep 60 & wait"]',
        'CMD ["sleep", "60"] # && echo never',
    ],
)
def test_the_first_process_is_the_one_that_is_said(tmp_path, command):
    """What the rule says of shells, held against a container."""
    import docker

    text = f"FROM python:3.11-slim\nUSER 1\n{command}\n"
    swallows = any(each.name == "signals" for each in look.findings(parse(text)))
    (tmp_path / "Dockerfile").write_text(text)
    tag = f"cpr-test-first:{abs(hash(command)) % 10**8}"
    engine = choose("docker").engine
    engine.build(Build(context=tmp_path, tag=tag), lambda _: None)
    with contextlib.closing(docker.from_env()) as client:
        container = client.containers.run(tag, detach=True)
        try:
            first = once_it_sleeps(container)[0]
        finally:
            container.remove(force=True)
            engine.remove_image(tag)
    assert first.split()[0].endswith(("sh", "bash")) == swallows


def once_it_sleeps(container):
    """The processes of a container, the first first, as soon as the last command has begun."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        running = [process[1] for process in container.top(ps_args="-o pid,args")["Processes"]]
        if any(each.startswith("sleep") for each in running):
            return running
        time.sleep(0.05)
    raise AssertionError("it did not begin")


def test_a_shell_that_is_a_bash_makes_way(found):
    assert found("FROM rockylinux:9\nUSER 1\nCMD other\n") == []
    assert found("FROM debian:12\nUSER 1\nCMD other\n") == [(3, "breach", "signals")]


def test_a_script_that_stays_before_its_server(found):
    text = starts('ENTRYPOINT ["./go.sh"]', "COPY --chmod=755 docker/go.sh ./\n")
    script = "#!/usr/bin/env bash\nset -e\n# why\npython \\\n  serve.py\n"
    assert found(text, {"docker/go.sh": script}) == [("docker/go.sh:4", "breach", "signals")]
    assert found(text, {"docker/go.sh": script.replace("python", "exec python")}) == []
    assert found(text, {"docker/go.sh": script.replace("python", "service nginx start")}) == [
        ("docker/go.sh:4", "breach", "signals"),
        ("docker/go.sh:4", "breach", "start"),
    ]
    assert found(text, {"docker/go.sh": "#!/bin/sh\nuvicorn m:a --port 80\n"}) == [
        ("docker/go.sh:2", "breach", "address"),
        ("docker/go.sh:2", "breach", "port"),
        ("docker/go.sh:2", "breach", "signals"),
    ]


def test_a_script_that_cannot_be_run(found):
    text = starts('ENTRYPOINT ["./go.sh"]', "COPY go.sh ./\n")
    script = "#!/bin/sh\nexec other\n"
    assert found(text, {"go.sh": script}) == [(6, "breach", "mode")]
    assert found(text.replace("COPY go.sh ./\n", "COPY go.sh ./\nRUN chmod +x go.sh\n"), {"go.sh": script}) == []
    assert found(text.replace('["./go.sh"]', '["sh", "go.sh"]'), {"go.sh": script}) == []
    windows = found(text.replace("COPY", "COPY --chmod=755"), {"go.sh": script.replace("\n", "\r\n")})
    assert ("go.sh:1", "breach", "mode") in windows


def test_arguments_that_nobody_gets(found):
    text = starts('ENTRYPOINT exec other\nCMD ["--port", "1"]')
    assert found(text) == [(6, "breach", "arguments")]


# --- form ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "instead"),
    [
        ("CMD ['python', 'x.py']", "exec form", 'CMD ["program", "argument"]'),
        ("CMD [python, x.py]", "exec form", "double quotes"),
        ('CMD ["other"] # server', "exec form", "into the list"),
        ("RUN [ 'pip', 'list' ]", "exec form", "RUN"),
        ("SHELL bash -c", "exec form", "SHELL"),
        ("COPPY a b", "syntax", "write COPY"),
        ("XYZZY", "syntax", "there are ADD"),
        ("RUN", "syntax", "write what"),
        ("CMD --port 8080", "syntax", "none"),
        ("COPY --form=x a b", "syntax", "--from"),
        ("ENV A", "syntax", "NAME=value"),
        ("ENV A=1 B", "syntax", "NAME=value"),
        ("ENV =x", "syntax", "NAME=value"),
        ("FROM a b", "syntax", "FROM IMAGE"),
        ("COPY a", "source", "SOURCE TARGET"),
        ("COPY a b /usr/x", "target", "/usr/x/"),
        ("COPY --from=biuld /a /a", "stage", "--from=build"),
        ("COPY --from=7 /a /a", "stage", "build"),
    ],
)
def test_what_a_builder_refuses_or_misreads(found, line, name, instead):
    found(f'FROM python:3.11 AS build\nFROM python:3.11\nUSER 1\nCMD ["other"]\n{line}\n')
    (finding,) = [
        each for each in found.look.findings if each.severity == "breach" and each.line == 5 and each.name == name
    ]
    assert instead in finding.instead


@pytest.mark.parametrize("line", ["RUN [ -f x ] && y", "RUN [ 'a' = \"$B\" ] || exit", 'RUN [ "$A" = b ]', "ENV A=[x]"])
def test_brackets_of_the_shell_are_no_list(found, line):
    assert found(SOUND.replace("USER", f"{line}\nUSER")) == []


def test_files_without_a_stage(found):
    assert found("") == [(1, "breach", "syntax")]
    assert found('RUN a\nFROM python:3.11\nUSER 1\nCMD ["other"]\n') == [(1, "breach", "syntax")]
    assert found("# escape=x\n" + SOUND) == [(1, "breach", "syntax")]
    assert (4, "breach", "syntax") in found(SOUND.replace("USER", "RUN <<EOF\nUSER"))


def test_what_is_noted(found):
    assert found(SOUND.replace(":3.11-slim", "")) == [(1, "note", "base tag")]
    assert found(SOUND.replace(":3.11-slim", ":latest")) == [(1, "note", "base tag")]
    assert found(SOUND + 'CMD ["a"]\nCMD ["b"]\n') == [(6, "note", "last wins")]
    assert found(SOUND + "HEALTHCHECK CMD curl x\n") == [(6, "note", "HEALTHCHECK")]
    assert found(SOUND + "ADD https://x.example/a.bin /a\n") == [(6, "note", "ADD")]
    assert found(SOUND + "RUN <<E\necho a\nE\n") == [(6, "note", "heredoc")]


def test_the_platform(found):
    assert found(SOUND.replace("FROM", "FROM --platform=linux/arm64")) == [(1, "breach", "platform")]
    assert (1, "breach", "platform") in found(SOUND.replace("python:", "arm64v8/python:"))
    assert found(SOUND.replace("FROM", "FROM --platform=$BUILDPLATFORM")) == [(1, "note", "platform")]
    assert found(SOUND.replace("FROM", "FROM --platform=linux/amd64")) == []
    assert found("FROM --platform=$BUILDPLATFORM python:3.11 AS build\n" + SOUND) == []


def test_sources_that_are_not_there(found):
    files = {"predictor.py": "", "data/a.csv": "", ".dockerignore": "data\n"}
    text = SOUND.replace(
        "USER", "COPY predicter.py \\\n  predictor.py ./\nCOPY data/ /data/\nCOPY ../x /x\nCOPY .cpr/ /kit/\nUSER"
    )
    assert found(text, files) == [(4, "breach", "source"), (6, "breach", "source"), (7, "breach", "source")]
    assert "COPY predictor.py" in found.look.findings[0].instead
    assert "!data" in found.look.findings[1].instead
    assert found(SOUND.replace("USER", "COPY *.py data/a.csv$X $Y /x/\nUSER"), files) == []


def test_a_guessed_folder_is_not_held_against_the_file(found):
    text = SOUND.replace("USER", "COPY one two /x/\nUSER")
    assert found(text, {"other": ""}, certain=False) == [(4, "note", "source")]
    assert found(text, {"other": ""}) == [(4, "breach", "source"), (4, "breach", "source")]
    assert found(SOUND.replace("USER", "COPY othre /x/\nUSER"), {"other": ""}, certain=False) == [
        (4, "breach", "source")
    ]


def test_the_folder_that_a_file_is_built_from(tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "app.py").touch()
    path = tmp_path / "docker/Dockerfile"
    path.write_text("FROM a\nCOPY app.py .\n")
    assert look.folder_of(path, tmp_path) == (tmp_path, False)
    assert look.folder_of(path, tmp_path / "docker") == (tmp_path / "docker", False)
    (tmp_path / "docker/app.py").touch()
    assert look.folder_of(path, tmp_path) == (tmp_path / "docker", False)
    (tmp_path / "cpr.toml").touch()
    assert look.folder_of(path, tmp_path / "docker") == (tmp_path, True)


PIECES = st.sampled_from(
    [
        *"FROM RUN CMD ENTRYPOINT ENV ARG COPY ADD USER EXPOSE WORKDIR SHELL --from=0 AS".split(),
        *(
            "python:3.11",
            "a",
            ".",
            "./",
            "/root",
            "$A",
            "${A:-1}",
            "A=1",
            "AIP_MODE=x",
            "8080",
            "pip install -r r.txt",
            "&&",
        ),
        *(
            '["a", "b"]',
            "['a']",
            "sh -c",
            "uvicorn",
            "gunicorn -b",
            "--port",
            "exec",
            "&",
            "|",
            ";",
            "<<E",
            '"',
            "'",
            "\\",
            "[",
            "(",
        ),
        *("\n", "\n", " \\\n", "# x\n", "nginx", "flask run -p", "python -m", "python x.py", "fastapi dev", "-c"),
    ]
)


@given(st.lists(PIECES, max_size=40).map(" ".join), st.sampled_from([None, *sorted(SEEDED.iterdir())]))
def test_no_file_stops_the_look(text, context):
    files = Files.of(context) if context else None
    for each in look.findings(parse("FROM python:3.11\n" + text), files):
        lines = (context / each.path).read_text() if each.path else f"{text}\n"
        assert 1 <= each.line <= lines.count("\n") + 1
        assert (each.detail + each.instead).isprintable()
        assert each.rule


@pytest.mark.parametrize("word", ["x" * 5000, "\\u0000", "\\ud800", "\\u001b[2J", "../" * 50, "[", "**"])
@pytest.mark.parametrize(
    "line", ['COPY ["{}", "/x/"]', 'CMD ["{}"]', 'CMD ["python", "{}.py"]', 'CMD ["sh", "{}"]', "COPY {} ."]
)
def test_names_that_no_file_can_have(line, word):
    text = f"FROM python:3.11\nWORKDIR /x\nCOPY . .\n{line.format(word)}\n"
    for each in look.findings(parse(text), Files.of(SEEDED / "sound")):
        assert each.detail.isprintable()


def test_every_rule_is_in_the_documentation():
    page = (ROOT / "docs/dockerfile.md").read_text()
    modules = (importlib.import_module(f"cpr_kit.build.lint.{path.stem}") for path in LINT.glob("[a-z]*.py"))
    rules = {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Rule)}
    assert len(rules) > 20
    for name in rules:
        assert f"| {name} |" in page, name
