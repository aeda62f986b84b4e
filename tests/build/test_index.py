import ast
import subprocess
import sys

import pytest

from cpr_kit.config import tomllib

from cpr_kit.build import index
from cpr_kit.errors import ConfigError


@pytest.fixture
def home(tmp_path):
    for name, text in {
        "xdg/pip/pip.conf": "[global]\ntimeout = 7\nindex-url = https://far.example/simple\n",
        ".pip/pip.conf": "[global]\nproxy = http://old.example:3128\n",
        ".config/pip/pip.conf": "[install]\nindex-url = https://near.example/simple\n[global]\ntrusted_host = a.example\n    b.example\n",
        "named.conf": "[global]\nextra-index-url =\n    https://u:p%40@x.example/simple\n    file:///opt/simple\n    /opt/more\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def environ(home):
    return {"HOME": str(home), "XDG_CONFIG_DIRS": f"{home}/xdg", "PIP_CONFIG_FILE": f"{home}/named.conf"}


@pytest.mark.parametrize("named", [True, False])
def test_settings_are_those_that_pip_lists(environ, named):
    environ |= {"PIP_TIMEOUT": "9", "PIP_FIND_LINKS": "/opt/wheels https://w.example/w"}
    if not named:
        del environ["PIP_CONFIG_FILE"]
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.splitlines()
    listed = {}
    for prefix in ("global.", "install.", ":env:."):
        listed |= {
            name.removeprefix(prefix): ast.literal_eval(value)
            for name, _, value in (line.partition("=") for line in lines)
            if name.startswith(prefix) and name != ":env:.config-file"
        }
    found = {name: value.split() for name, value in index.settings(environ).items() if name != "config-file"}
    assert found == {name: value.split() for name, value in listed.items()}
    assert ("trusted-host" in listed) is not named


def test_what_names_a_path_of_this_machine_stays_here(environ):
    environ |= {"PIP_FIND_LINKS": "/opt/wheels https://w.example/w"}
    environ |= {"PIP_TRUSTED_HOST": "a.example b.example", "PIP_PROXY": "http://p.example:3128"}
    assert index.text(index.settings(environ), None) == (
        "[global]\n"
        "index-url = https://far.example/simple\n"
        "timeout = 7\n"
        "proxy = http://p.example:3128\n"
        "extra-index-url = https://u:p%40@x.example/simple\n"
        "trusted-host = a.example\n    b.example\n"
        "find-links = https://w.example/w\n"
    )


def test_an_index_on_this_machines_disk_leaves_the_default_one():
    assert index.text({"index-url": "file:///opt/simple", "extra-index-url": "/a ../b"}, None) == "[global]\n"


def test_no_configuration_file_is_read_when_pip_reads_none(environ):
    assert index.settings({**environ, "PIP_CONFIG_FILE": "/dev/null"}) == {"config-file": "/dev/null"}


@pytest.mark.parametrize("names", [["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"], ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"], ["SSL_CERT_FILE"]])  # fmt: skip
def test_the_certificates_are_those_that_pip_is_told_first(tmp_path, names):
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    for name in names:
        environ[name] = str(tmp_path / name)
        (tmp_path / name).write_text(name)
    index.write(tmp_path, environ)
    assert (tmp_path / "ca.pem").read_text() == names[0]
    assert "cert = /index/ca.pem\n" in (tmp_path / "pip.conf").read_text()


def test_uv_is_told_the_same(environ, tmp_path):
    environ |= {"PIP_TRUSTED_HOST": "a.example b.example", "PIP_PROXY": "http://p.example:3128", "PIP_TIMEOUT": "7.5"}
    (tmp_path / "ca.crt").write_text("x")
    index.write(tmp_path, {**environ, "SSL_CERT_FILE": str(tmp_path / "ca.crt")})
    assert tomllib.loads((tmp_path / "uv.toml").read_text()) == {
        "index-strategy": "unsafe-best-match",
        "index-url": "https://far.example/simple",
        "extra-index-url": ["https://u:p%40@x.example/simple"],
        "allow-insecure-host": ["a.example", "b.example"],
    }
    assert (tmp_path / "uv.sh").read_text().splitlines() == [
        "export SSL_CERT_FILE=/index/ca.pem",
        "export UV_HTTP_TIMEOUT=7",
        "export http_proxy=http://p.example:3128",
        "export https_proxy=http://p.example:3128",
    ]


def test_without_certificates_of_its_own_none_are_named(tmp_path):
    index.write(tmp_path, {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"})
    assert (tmp_path / "pip.conf").read_text() == "[global]\n"
    assert not (tmp_path / "ca.pem").exists()


def test_certificates_that_do_not_exist_are_passed_over(tmp_path):
    assert index.certificates({"cert": "/nowhere"}, {"SSL_CERT_FILE": str(tmp_path)}) is None


def test_a_configuration_file_that_is_none_is_named(environ, home):
    (home / "named.conf").write_text("index-url = x\n")
    with pytest.raises(ConfigError, match=r"named\.conf cannot be read: .*no section headers"):
        index.settings(environ)


def test_proxies_come_in_both_spellings_and_nothing_else_does():
    environ = {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://p:2", "no_proxy": "", "PIP_PROXY": "x"}
    assert index.proxies(environ) == {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://p:2"}
