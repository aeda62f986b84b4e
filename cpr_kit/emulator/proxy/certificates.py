"""A certificate authority that lives as long as this process, and the servers' certificates it signs.

The keys of the authority and the servers stay in memory: only the authority's certificate is written, to be trusted.
Where the system has no files in memory (macOS), a server's key is on the disk while OpenSSL reads it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import trustme

from cpr_kit.emulator.proxy.hosts import LOCAL, normal, wildcard

_ALWAYS = (*LOCAL, "*.googleapis.com")
MARKER = "CPR_EMULATOR"
"""The variable that says which emulator an environment belongs to."""
_NAMES_OF_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
"""Where Debian, Fedora and SUSE keep theirs; OpenSSL itself is told of a folder there, which gRPC cannot read."""


class Authority:
    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="cpr emulate", organization_unit_name="this machine only")

    @property
    def certificate(self) -> bytes:
        """In PEM."""
        return self._ca.cert_pem.bytes()

    def issue(self, names: tuple[str, ...]) -> tuple[bytes, bytes]:
        """Key and certificate chain for these names, in PEM."""
        leaf = self._ca.issue_cert(*names, organization_name="cpr emulate")
        return leaf.private_key_pem.bytes(), b"".join(blob.bytes() for blob in leaf.cert_chain_pems)

    def bundle(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        """Write the roots that this machine trusts, and this authority, to `path`."""
        parts = [root.read_bytes().rstrip() for root in _roots(environ)]
        path.write_bytes(b"\n".join([*parts, self.certificate]))


@functools.cache
def authority() -> Authority:
    """The one of this process. gRPC reads its roots once: all emulators that a program starts have to share them."""
    return Authority()


class ServerCertificate:
    """What the servers of one emulator show. It grows by the names that clients ask for.

    A dedicated endpoint's name is two levels below the known part (E.R-N.prediction.vertexai.goog), so no certificate
    made at the start covers all of them. The proxy reads each client's hello and calls `cover` before it connects.
    Called on the emulator's loop only; gRPC's threads read what `cover` left.
    """

    def __init__(self, signer: Authority | None = None) -> None:
        self._signer = signer or authority()
        self._names: tuple[str, ...] = _ALWAYS
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["http/1.1"])
        self._renew()

    def cover(self, host: str) -> None:
        """From the next handshake on, the certificate is good for `host`."""
        name = wildcard(host)
        if name in self._names or normal(host) in self._names:
            return
        before = self._names
        self._names = (*before, name)
        try:
            self._renew()
        except ValueError:  # a name that no certificate can have (xn--...): its client will refuse us
            self._names = before

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server; it asks for the certificate at each handshake."""
        shown = self._grpc

        def renewed() -> Any:
            nonlocal shown
            if shown is self._grpc:
                return None  # gRPC keeps the one it has
            shown = self._grpc
            return shown

        return grpc.dynamic_ssl_server_credentials(shown, renewed)

    def _renew(self) -> None:
        key, chain = self._signer.issue(self._names)
        with _as_file(key + chain) as path:
            self.context.load_cert_chain(path)
        self._grpc = grpc.ssl_server_certificate_configuration([(key, chain)])


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path for OpenSSL, which takes a key by no other way: of a file in memory, else of one for this user alone."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    handle = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(handle, data)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _roots(environ: Mapping[str, str]) -> list[Path]:
    """The files with roots that this machine's own settings name, else the system's, else certifi's."""
    # Inside another emulator's environment they name that one's bundle, which goes away with it.
    named = [] if environ.get(MARKER) else [environ.get(name, "") for name in _NAMES_OF_BUNDLES]
    if files := list(dict.fromkeys(Path(name) for name in named if name and Path(name).is_file())):
        return files
    for system in (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM_BUNDLES):
        if Path(system).is_file():
            return [Path(system)]
    with contextlib.suppress(ImportError):
        import certifi

        return [Path(certifi.where())]
    return []
