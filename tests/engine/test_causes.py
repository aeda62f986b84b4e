"""What installers and builders print, as they printed it, and the one cause that is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.engine import causes
from cpr_kit.engine.failed import Cause, Failed
from cpr_kit.errors import BuildError

UNSATISFIABLE = "we can conclude that your requirements are unsatisfiable."
RETRY = (
    "WARNING: Retrying (Retry(total={}, connect=None, read=None, redirect=None, status=None)) after connection broken by"
    " 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new"
    " connection: [Errno -2] Name or service not known')': /simple/numpy/"
)
UV_OLD = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because fastapi==0.70.0 depends on starlette==0.16.0 and you require
      starlette>=0.49, we can conclude that your requirements and
      fastapi==0.70.0 are incompatible.
      And because you require fastapi==0.70, we can conclude that your
      requirements are unsatisfiable."""
UV_NEW = f"""\
error: No solution found when resolving dependencies
  cause: Because scikit-learn>=1.9.1 depends on numpy>=1.24.1 and you require numpy<1.20, {UNSATISFIABLE}"""
PIP_CONFLICT = """\
ERROR: Cannot install fastapi==0.70.0 and starlette>=0.49 because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested starlette>=0.49
    fastapi 0.70.0 depends on starlette==0.16.0

To fix this you could try to:
1. loosen the range of package versions you've specified
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/"""
PIP_PYTHON = """\
ERROR: Ignored the following versions that require a different python version: 1.21.2 Requires-Python >=3.7,<3.11; \
2.5.0 Requires-Python >=3.12; 2.5.1 Requires-Python >=3.12
ERROR: Could not find a version that satisfies the requirement numpy=={0} (from versions: 1.3.0, 2.4.6)
ERROR: No matching distribution found for numpy=={0}"""
HASHES = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions,
    six==1.16.0 from https://files.pythonhosted.org/packages/six-1.16.0-py2.py3-none-any.whl (from -r h.txt (line 1)):"""

WORDS = {
    "space, pip": (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "no space is left on the engine's disk",
    ),
    "space, uv": ("  cause: failed to write to file: No space left on device (os error 28)", "no space is left"),
    "space, engine": ("failed to register layer: Error processing tar file: no space left on device", "no space is left"),
    "memory": ("The command '/bin/sh -c x' returned a non-zero code: 137", "the step was killed"),
    "network, pip": (f"{RETRY.format(1)}\n{RETRY.format(0)}\n", "the package index cannot be reached (name or service"),
    "network, uv": (
        "error: Request failed after 3 retries in 8.0s\n"
        "  cause: Failed to fetch: http://me:secret@pypi.corp:8080/simple/numpy/\n"
        "  cause: tcp connect error\n  cause: Connection refused (os error 111)",
        "the package index at pypi.corp:8080 cannot be reached (connection refused)",
    ),
    "certificate, uv": (
        "error: Failed to fetch: `https://pypi.corp/simple/six/`\n  cause: invalid peer certificate: UnknownIssuer",
        "the package index at pypi.corp:443 shows a certificate that the build does not trust",
    ),
    "certificate, pip": (
        "Could not fetch URL https://pypi.corp/simple/six/: There was a problem confirming the ssl certificate: "
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed - skipping",
        "the package index at pypi.corp:443 shows a certificate",
    ),
    "refused, pip": ("WARNING: 401 Error, Credentials not correct for https://pypi.corp/simple/six/", "the package index"),
    "refused, uv": (
        "  cause: HTTP status client error (403 Forbidden) for url (https://pypi.corp/simple/six/)",
        "the package index at pypi.corp:443 refuses (403 Forbidden)",
    ),
    "absent, pip": (
        "ERROR: Could not find a version that satisfies the requirement nono (from versions: none)\n"
        "ERROR: No matching distribution found for nono",
        'the package index has no "nono" for this Python and platform',
    ),
    "absent, uv": (
        f"  cause: Because nono was not found in the package registry and you require nono, {UNSATISFIABLE}",
        'the package index has no "nono"',
    ),
    "version, pip": (PIP_PYTHON.format("99"), 'the package index has other versions, but no "numpy==99"'),
    "version, uv": (
        f"  cause: Because there is no version of numpy==99 and you require numpy==99, {UNSATISFIABLE}",
        'the package index has other versions, but no "numpy==99"',
    ),
    "range, uv": (
        f"  cause: Because only six<=1.17.0 is available and you require six>=99, {UNSATISFIABLE}",
        'the package index has other versions, but no "six>=99"',
    ),
    "python, pip": (PIP_PYTHON.format("2.5.0"), "numpy==2.5.0 needs Python >=3.12, and the base image has another"),
    "python, uv": (
        "  ╰─▶ Because the current Python version (3.10.12) does not satisfy Python>=3.11 and numpy==2.4.6\n"
        "      depends on Python>=3.11, we can conclude that numpy==2.4.6 cannot be used.\n"
        f"      And because you require numpy==2.4.6, {UNSATISFIABLE}",
        "numpy==2.4.6 needs Python>=3.11, and the base image has another",
    ),
    "conflict, pip": (
        PIP_CONFLICT,
        "the requirements contradict each other: The user requested starlette>=0.49; "
        "fastapi 0.70.0 depends on starlette==0.16.0",
    ),
    "conflict, uv": (
        UV_OLD,
        "the requirements contradict each other: because fastapi==0.70.0 depends on starlette==0.16.0 and you require"
        " starlette>=0.49, we can conclude that your requirements and fastapi==0.70.0 are incompatible. And because you"
        " require fastapi==0.70",
    ),
    "conflict, newer uv": (
        UV_NEW,
        "the requirements contradict each other: because scikit-learn>=1.9.1 depends on numpy>=1.24.1 and you require"
        " numpy<1.20",
    ),
    "hashes, pip": (HASHES, "a file of the package index is not the one whose hash is written down"),
    "hashes, uv": ("  cause: Hash mismatch for `six==1.16.0`", "a file of the package index is not the one"),
    "compiler, pip": ("  ERROR: Failed building wheel for pystemmer", "pystemmer has no wheel for this Python"),
    "compiler, uv": ("  × Failed to build `numpy==1.19.0`", "numpy==1.19.0 has no wheel for this Python"),
    "template": ("cpr-kit: the base image has Python 3.8; Python 3.10 or newer is needed", "the base image has Python 3.8"),
    "no python": ("/bin/sh: 1: python3: not found", "the base image has no python3 on its PATH"),
    "foreign": ('exec /bin/sh: exec format error', "this engine cannot run linux/arm64 programs"),
}  # fmt: skip


def explained(said: str, step: str = "RUN sh install.sh", **options: str) -> BuildError:
    return causes.explained(BuildError(step, tuple(said.splitlines())), platform="linux/arm64", **options)


@pytest.mark.parametrize(("said", "cause"), WORDS.values(), ids=WORDS)
def test_each_of_the_words_has_its_one_cause(said, cause):
    error = explained(said)
    assert error.cause.startswith(cause)
    assert error.remedy
    assert "secret" not in error.cause + error.remedy
    assert f"\n  why: {error.cause}\n  do: {error.remedy}" in str(error)


@pytest.mark.parametrize("said", ["", "exit code: 1", "AssertionError", f"{RETRY.format(4)}\nok\nexit code: 1"])
def test_what_nothing_is_known_of_stays_as_it_was(said):
    error = explained(said)
    assert (error.cause, error.remedy, error.exit_code) == ("", "", 1)
    assert "why:" not in str(error)


@pytest.mark.parametrize(("word", "code"), [("space, pip", 3), ("network, uv", 3), ("absent, uv", 1), ("template", 1)])
def test_the_exit_code_tells_the_machine_from_the_project(word, code):
    assert explained(WORDS[word][0]).exit_code == code


def test_an_index_on_this_machine_is_not_on_the_builds():
    said = "error: Failed to fetch: `http://127.0.0.1:3141/simple/six/`\n  cause: Connection refused (os error 111)"
    assert "the build's own container" in explained(said).remedy
    assert "the build's own container" not in explained(said, engine="process").remedy


@pytest.mark.parametrize(
    ("step", "said", "image"),
    [
        ("step 1/2: FROM python:9 AS tools", "manifest for python:9 not found: manifest unknown", "python:9"),
        ("step 1/2: FROM --platform=linux/arm64 a/b", "pull access denied for a/b, repository does not exist", "a/b"),
        ("[internal] load metadata for docker.io/library/python:9", "failed to do request: Head", "python:9"),
        ("[internal] load metadata for quay.io/x/y:1", "dial udp: connect: network is unreachable", "quay.io/x/y:1"),
    ],
)
def test_a_base_image_that_nobody_has_is_named(step, said, image):
    error = explained(said, step)
    assert error.cause == f"this machine has no image {image} for linux/arm64, and no registry gave it"
    assert f"docker pull {image}" in error.remedy


LINES = st.one_of(
    st.text(),
    st.sampled_from([line for said, _ in WORDS.values() for line in said.splitlines()]),
    st.from_regex(r"(Failed to fetch: `https?://\S*|No matching distribution found for .*|Because .* unsatisfiable)"),
)


@given(st.text(), st.lists(LINES, max_size=20))
def test_any_lines_have_one_cause_or_none(step, lines):
    found = causes.find(Failed(step=step, lines=tuple(lines)))
    assert found is None or isinstance(found, Cause)
