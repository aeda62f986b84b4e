"""What pip and uv print when they cannot install -> why, and what to do."""

from __future__ import annotations

import re
import urllib.parse

from cpr_kit.engine.failed import Cause, Failed

# pip tries again and says so each time: only the last try is a failure.
_LAST_TRY = re.compile(r"Retry\(total=0,|Max retries exceeded|Failed to fetch|error sending request|failure resolving")
_UNREACHED = re.compile(
    r"connection refused|name or service not known|temporary failure (?:in name resolution|resolving)"
    r"|nodename nor servname provided|failed to lookup address|network is unreachable|no route to host"
    r"|connection reset by peer|(?:connection|read|operation|request) timed out|connect timeout|tunnel failed",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|certificate verify failed|UnknownIssuer")
_REFUSED = re.compile(r"\b(?:401|403|407) (?:Client )?(?:Error|Unauthorized|Forbidden|Proxy Auth\w+)", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s`'\")>,]+")
_HASHES = re.compile(r"do not match the hashes|hash mismatch for|in `?--require-hashes`? mode", re.IGNORECASE)
_UNKNOWN = re.compile(r"Because (\S+) was not found in the package registry")
_UNMATCHED = re.compile(r"No matching distribution found for (.+)")
_NO_VERSION = re.compile(r"Because there (?:is|are) no versions? of (\S+?)[, ]|Because only .+? (?:is|are) available")
_REQUIRED = re.compile(r"you require (\S+?),? ")
_OTHER_PYTHON = re.compile(r"does not satisfy (Python[^\s,]+) and (?:all versions of )?(\S+) depends? on")
_SENTENCE = re.compile(r"(Because .+)(?:, we can conclude that your requirements are unsatisfiable)")
_FACTS = re.compile(r"The conflict is caused by:\n((?:\s+\S.*\n?)+)")
_UNBUILT = re.compile(
    r"Failed building wheel for (\S+)|Failed to (?:build|download and build) `([^`]+)`"
    r"|Failed to build '?([\w.-]+)'? when|(\S+) has no usable wheels"
)

_LOOSEN = "loosen one of them in requirements.txt; where the other one is the kit's, yours has to give way"


def network(failed: Failed) -> Cause | None:
    where = _host(failed.text)
    index = f"the package index{f' at {where}' if where else ''}"
    if _UNTRUSTED.search(failed.text):
        return Cause(
            what=f"{index} shows a certificate that the build does not trust",
            remedy="name the file of the authorities that you trust: SSL_CERT_FILE, or cert in pip.conf",
            lacking=True,
        )
    if refusal := _REFUSED.search(failed.text):
        return Cause(
            what=f"{index} refuses ({refusal[0]})",
            remedy="check user and password in its URL (PIP_INDEX_URL, or index-url in pip.conf)",
            lacking=True,
        )
    why = _UNREACHED.search(failed.text)
    if not why or not _LAST_TRY.search(failed.text):
        return None
    remedy = "check the network and the proxy, or name an index that can be reached (PIP_INDEX_URL); cpr doctor looks"
    if where.rpartition(":")[0] in ("127.0.0.1", "localhost") and failed.engine != "process":
        remedy = f"in a build {where} is the build's own container; name the index by an address that it can reach"
    return Cause(what=f"{index} cannot be reached ({why[0].lower()})", remedy=remedy, lacking=True)


def _host(text: str) -> str:
    """Host and port of the last URL that is named, and nothing of it that may be a password."""
    for url in reversed(_URL.findall(text)):
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            continue
        if host:
            return f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"
    return ""


def hashes(failed: Failed) -> Cause | None:
    if not _HASHES.search(failed.flat):
        return None
    return Cause(
        what="a file of the package index is not the one whose hash is written down, or no hash is",
        remedy="find out why it changed, then make the lock again: cpr lock",
    )


def python(failed: Failed) -> Cause | None:
    """A distribution that wants another Python."""
    found = _OTHER_PYTHON.search(failed.flat)
    name, needed = (found[2], found[1]) if found else ("", "")
    unmatched = _UNMATCHED.search(failed.said)
    if unmatched and "==" in unmatched[1]:
        # pip lists what it passed over for its Python; that counts where the wanted version is among it.
        name = unmatched[1].strip()
        version = re.escape(name.rpartition("==")[2])
        passed_over = re.search(rf"(?:^|[\s;]){version} Requires-Python ([^;\n]+)", failed.said)
        needed = f"Python {passed_over[1].strip()}" if passed_over else ""
    if not needed:
        return None
    return Cause(
        what=f"{name} needs {needed}, and the base image has another",
        remedy="choose a base with that Python ([image] base), or another version in requirements.txt",
    )


def absent(failed: Failed) -> Cause | None:
    """A name, or a version, that no index has."""
    unmatched = _UNMATCHED.search(failed.said)
    if unmatched and "from versions: none" not in failed.said:
        return _other_versions(unmatched[1].strip())
    if unknown := _UNKNOWN.search(failed.flat) or unmatched:
        return Cause(
            what=f'the package index has no "{unknown[1].strip()}" for this Python and platform',
            remedy="correct its name in requirements.txt, or name the index that has it (PIP_INDEX_URL)",
        )
    if version := _NO_VERSION.search(failed.flat):
        required = _REQUIRED.search(failed.flat)
        return _other_versions(version[1] or (required[1] if required else "that version"))
    return None


def _other_versions(wanted: str) -> Cause:
    return Cause(
        what=f'the package index has other versions, but no "{wanted}"',
        remedy="ask in requirements.txt for a version that it has",
    )


def conflict(failed: Failed) -> Cause | None:
    what = "the requirements contradict each other"
    if said := _FACTS.search(failed.said):
        return Cause(what=f"{what}: {'; '.join(line.strip() for line in said[1].strip().splitlines())}", remedy=_LOOSEN)
    if sentence := _SENTENCE.search(failed.flat):
        return Cause(what=f"{what}: {sentence[1][0].lower()}{sentence[1][1:]}", remedy=_LOOSEN)
    if re.search(r"ResolutionImpossible|conflicting dependencies|No solution found|are unsatisfiable", failed.flat):
        return Cause(what=what, remedy=_LOOSEN)
    return None


def compiler(failed: Failed) -> Cause | None:
    """A distribution without a wheel, and no way to make one."""
    found = _UNBUILT.search(failed.said) or _UNBUILT.search(failed.flat)
    if found is None:
        return None
    name = next(group for group in found.groups() if group)
    return Cause(
        what=f"{name} has no wheel for this Python and platform, and could not be compiled",
        remedy="take a version that has a wheel, or a base with compilers: python:3.11 in place of python:3.11-slim",
    )


RULES = (network, hashes, python, compiler, absent, conflict)
