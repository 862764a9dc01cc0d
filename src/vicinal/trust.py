"""Which certificates a server is believed by, for all that asks one over HTTPS.

Authorities come from a file that is named, else from ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` as for
other programs, else from the usual collection. A proxy is another matter, so these count for this
machine's servers, too.
"""

import os
import ssl
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

import httpx

from vicinal.errors import InvalidInput

FILE_VARIABLE, FOLDER_VARIABLE = "SSL_CERT_FILE", "SSL_CERT_DIR"


def verification(file: Path | None, environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return what certificates are verified by.

    Args:
        file: Certificates of authorities, as PEM; no others are believed.
        environment: Has the variables.

    Raises:
        InvalidInput: a file cannot be read, or holds no certificate.
    """
    if file is not None:
        return _named(str(file), None, f"--cacert {file}")
    named, folder = environment.get(FILE_VARIABLE), environment.get(FOLDER_VARIABLE)
    if named or folder:
        return _named(named or None, folder or None, f"{FILE_VARIABLE} {named}")
    return _usual()


def is_distrust(reason: str) -> bool:
    """Tell whether a connection failed as a certificate is not believed; waiting does not help."""
    return "CERTIFICATE_VERIFY_FAILED" in reason


def with_remedy(reason: str) -> str:
    """Return why a connection failed, and what to do where a certificate was not believed."""
    if not is_distrust(reason):
        return reason
    return f"{reason}; --cacert or {FILE_VARIABLE} names the certificate of its authority"


@cache
def _usual() -> ssl.SSLContext:
    """The usual collection, which clients share, as reading it takes 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


def _named(file: str | None, folder: str | None, source: str) -> ssl.SSLContext:
    """A collection that is named, which is read again once its file is another."""
    try:
        status = Path(file).stat() if file else None
        version = (status.st_ino, status.st_mtime_ns, status.st_size) if status else None
        return _collection(file, folder, version)
    except ssl.SSLError as error:
        raise InvalidInput(f"{source} holds no certificates as PEM: {error.reason}") from error
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=8)
def _collection(
    file: str | None, folder: str | None, _version: tuple[int, int, int] | None
) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file, capath=folder)
