"""Commands that return, or leave for the background, where a server should stay."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from cpr_kit.build.lint.program import PYTHON, SHELLS, bare
from cpr_kit.build.shell import CLOSING, Command

Reason = tuple[str, str]
"""What was found, and what to write instead."""

OPEN_ENDED = CLOSING
"""What a loop or a case did before this word, only running it would tell."""

_AT_ONCE = frozenset(
    {
        "apt-get", "cat", "cd", "chmod", "chown", "cp", "date", "echo", "exit", "export", "false", "gsutil", "id", "ls",
        "mkdir", "mv", "pip", "pip3", "printenv", "printf", "pwd", "rm", "set", "source", "touch", "true", "whoami",
    }
)  # fmt: skip
_PROMPTS = SHELLS | {"ipython", "node", "irb", "R", "julia"}
_HELP = frozenset({"--help", "--version", "-V"})
_ONE_OFF_MODULES = frozenset({"pip", "compileall", "venv", "ensurepip"})
_DAEMONS: tuple[tuple[str, str, str], ...] = (
    # program, what among its words sends it to the background, what keeps it
    ("gunicorn", r"-D\Z|--daemon\b", ""),
    ("uwsgi", r"--daemonize\d?\b|-d\Z", ""),
    ("hypercorn", r"--daemon\b|-d\Z", ""),
    ("redis-server", r"yes\Z", ""),
    ("start-stop-daemon", r"--background\b|-b\Z", ""),
    ("torchserve", r"--start\b", r"--foreground\b"),
    ("pm2", r"start\Z", r"--no-daemon\b"),
    ("forever", r"start\Z", ""),
    ("ray", r"start\Z", r"--block\b"),
    ("celery", r"multi\Z", ""),
    ("screen", r"-d|-S", r"-D\Z"),
    ("tmux", r"-d\Z", ""),
)
_CONFIGURED: tuple[tuple[str, str, str, str], ...] = (
    # program, what keeps it among its words, what keeps it in a configuration, what to write
    ("supervisord", r"-n\Z|--nodaemon\b", r"nodaemon\s*=\s*true", "supervisord -n"),
    ("nginx", r"daemon\s+off", r"daemon\s+off", "nginx -g 'daemon off;'"),
    ("apache2ctl", r"-?D?FOREGROUND\Z", "", "apache2ctl -D FOREGROUND"),
    ("apachectl", r"-?D?FOREGROUND\Z", "", "apachectl -D FOREGROUND"),
    ("httpd", r"-?D?FOREGROUND\Z|-X\Z", "", "httpd -D FOREGROUND"),
)
_SERVICES = frozenset({"service", "systemctl", "rc-service", "initctl"})
_SCRIPT_RUNNERS = frozenset({"npm", "yarn", "pnpm"})
_STAY = "start the server itself, in the foreground"


def why(command: Command, *, has_text: Callable[[str], bool]) -> Reason | None:
    """Why a start that ends with this command ends. `has_text` looks for a pattern in the configurations at hand."""
    words = bare(command.words)
    if not words:
        return ("nothing runs in the foreground", _STAY) if command.assignments else None
    name, texts = posixpath.basename(words[0].text), tuple(word.text for word in words[1:])
    shown = " ".join((name, *texts))[:60]
    if command.after == "&":
        return f'"{shown} &" runs in the background, and nothing stays in front', f"exec {shown}"
    if name == "sleep" and texts != ("infinity",):
        return f'"{shown}" ends, and with it the container', _STAY
    if name in _AT_ONCE or _HELP & set(texts):
        return f'"{shown}" ends at once', _STAY
    return _prompt(name, texts) or _service(name, texts, shown) or _daemon(name, texts, has_text)


def _prompt(name: str, texts: tuple[str, ...]) -> Reason | None:
    options_alone = all(re.match(r"-[a-zA-Z]\Z|--login\Z", text) for text in texts) and "-c" not in texts
    if (name in _PROMPTS or PYTHON.match(name)) and options_alone:
        return f"{name} alone is a prompt, which ends where no terminal is", _STAY
    if PYTHON.match(name) and texts[:1] == ("-m",) and texts[1:2] and texts[1] in _ONE_OFF_MODULES:
        return f"{name} -m {texts[1]} ends when it is done", _STAY
    return None


def _service(name: str, texts: tuple[str, ...], shown: str) -> Reason | None:
    is_service = name in _SERVICES and bool({"start", "restart"} & set(texts))
    is_init_script = texts in (("start",), ("restart",)) and name not in _SCRIPT_RUNNERS
    return (f'"{shown}" starts it in the background and returns', _STAY) if is_service or is_init_script else None


def _daemon(name: str, texts: tuple[str, ...], has_text: Callable[[str], bool]) -> Reason | None:
    for program, leaves, keeps in _DAEMONS:
        left = [text for text in texts if re.match(leaves, text)]
        if name == program and left and not (keeps and any(re.match(keeps, text) for text in texts)):
            kept = f"{name} {keeps.removesuffix(chr(92) + 'b')}" if keeps.startswith("--") else f"leave {left[0]} out"
            return f"{name} {left[0]} leaves for the background and returns", kept
    for program, keeps, configured, instead in _CONFIGURED:
        stays = any(re.search(keeps, text) for text in texts)
        if name == program and not stays and not (configured and has_text(configured)):
            return f"{name} leaves for the background and returns", instead
    return None
