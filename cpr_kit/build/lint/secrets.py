"""Secrets that an image would keep. No message shows one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import translate

from cpr_kit.build.dockerfile import Instruction, Pair
from cpr_kit.build.lint import files
from cpr_kit.build.lint.finding import Finding, Rule, Severity
from cpr_kit.build.lint.subject import Subject
from cpr_kit.build.stages import Stage

SECRET = Rule("secret", "whoever can pull an image can read its layers, its environment and its history")
IDENTITY = Rule(
    "credentials", "Vertex AI gives the container an identity, and Google's libraries find it when no variable is set"
)
KEY_FILE = Rule("key file", "whoever can pull an image can read its files")

_NAME = re.compile(
    r"(?:\A|_)(?:TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(?:\Z|_)"
)
_ABOUT_IT = re.compile(
    r"_(?:FILE|PATH|DIR|NAME|ID|URL|URI|LENGTH|LIMIT|COUNT|SIZE|TTL|TYPE|EXPIRY|SECONDS|VERSION|RESOURCE)\Z"
)
_HARMLESS = re.compile(
    r"(?:\d+(?:\.\d+)?|true|false|yes|no|none|(?:/var)?/run/secrets/.*|</?\w+>|\[\w+\])?\Z", re.IGNORECASE
)
_VALUES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), "a private key"),
    (re.compile(r"\bya29\.[\w-]{10,}"), "a Google access token"),
    (re.compile(r"\bAIza[\w-]{30,}"), "a Google API key"),
    (re.compile(r"\b(?:gh[opsu]_\w{20,}|github_pat_\w{20,})"), "a GitHub token"),
    (re.compile(r"\bglpat-[\w-]{16,}"), "a GitLab token"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"\bxox[abprs]-[\w-]{10,}"), "a Slack token"),
    (re.compile(r"\bhf_[A-Za-z]{30,}"), "a Hugging Face token"),
    (re.compile(r"\bpypi-[\w-]{40,}"), "a PyPI token"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'$]*:[^\s/:@\"'$]+@"), "a URL with its password"),
)
_KEY_FILES = (
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "credentials.json",
    "*-key.json", "*_key.json", "*service-account*.json", "*service_account*.json", "application_default_*.json",
    ".env", ".env.*", ".netrc", ".pypirc", ".git-credentials",
)  # fmt: skip
_IS_KEY_FILE = re.compile("|".join(map(translate, _KEY_FILES)))
_EXAMPLES = (".example", ".sample", ".template", ".dist")
_CERTIFICATE = re.compile(r"(?:\A|[^a-z])(?:ca|cert|certs|cacert|bundle|chain|fullchain|pub|public|root)(?:[^a-z]|\Z)")
_PRIVATE = re.compile(r"PRIVATE KEY|\"private_key\"|\"client_secret\"|\"refresh_token\"")
_MOUNT = "RUN --mount=type=secret,id=NAME where a build needs it, Secret Manager where the server does"


def find(subject: Subject) -> Iterator[Finding]:
    kept = {stage.number for stage in subject.recipe.lineage}
    for instruction in subject.dockerfile.instructions:
        yield from _values(instruction)
    for stage in subject.recipe.stages:
        severity: Severity = "breach" if stage.number in kept else "note"
        for step in stage:
            if step.instruction.keyword in ("ENV", "ARG"):
                yield from _named(step.instruction, severity)
        yield from _key_files(subject, stage, severity)


def _values(instruction: Instruction) -> Iterator[Finding]:
    """What looks like a secret wherever it stands, in the text or below it."""
    for pattern, what in _VALUES:
        lines = [instruction.line_at(match.start()) for match in pattern.finditer(instruction.text)]
        for part in instruction.heredocs:
            lines += [part.line_at(match.start()) for match in pattern.finditer(part.text)]
        for line in lines:
            detail = f"{instruction.keyword} has {what} in it"
            yield SECRET.breach(line, detail, f"take it back where it was issued; {_MOUNT}")


def _named(instruction: Instruction, severity: Severity) -> Iterator[Finding]:
    for pair in instruction.pairs:
        name = pair.name.upper()
        if name == "GOOGLE_APPLICATION_CREDENTIALS":
            if pair.value:
                detail = f"{instruction.keyword} {pair.name} points at a key file"
                yield IDENTITY.found(
                    severity, (pair.line, ""), detail, "remove it; `cpr run` mounts a key where one is needed"
                )
        elif _NAME.search(name) and not _ABOUT_IT.search(name) and not _is_harmless(instruction, pair):
            where = "the environment" if instruction.keyword == "ENV" else "the history, whatever the build is given"
            detail = f"{instruction.keyword} {pair.name} puts what looks like a secret into {where}"
            yield SECRET.found(severity, (pair.line, ""), detail, _MOUNT)


def _is_harmless(instruction: Instruction, pair: Pair) -> bool:
    """A number, a switch, a place where secrets are mounted; an ARG without a default is there to be filled."""
    if pair.value is None:
        return instruction.keyword == "ENV"
    return bool(_HARMLESS.match(pair.value.strip("\"'")))


def _key_files(subject: Subject, stage: Stage, severity: Severity) -> Iterator[Finding]:
    for copied in files.copies(stage):
        for word, source in copied.known:
            for name in _keys(subject, source):
                how = "takes" if files.relative(source) == name else f"of {source} takes"
                yield KEY_FILE.found(
                    severity,
                    (word.line, ""),
                    f"{copied.step.instruction.keyword} {how} {name} into a layer",
                    "name it in .dockerignore; RUN --mount=type=secret where the build needs it",
                )


def _keys(subject: Subject, source: str) -> Iterator[str]:
    """The key files among what a source brings; the name of the source alone where there is no folder to look in."""
    context = subject.files
    name = files.relative(source)
    if context is None or not context.matching(source):
        if _is_key(name, None):
            yield name
        return
    yield from (path for path in context.below(source) if _is_key(path, context))


def _is_key(path: str, context: files.Files | None) -> bool:
    name = posixpath.basename(path).lower()
    if not _IS_KEY_FILE.match(name) or name.endswith(_EXAMPLES):
        return False
    if context is not None and (context.root / path).is_dir():
        return False
    text = context.text(path) if context is not None else None
    if text is not None and name.endswith((".pem", ".key", ".json")):
        return bool(_PRIVATE.search(text))
    return not (name.endswith(".pem") and _CERTIFICATE.search(name))
