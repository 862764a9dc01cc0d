"""Which certificates a server is believed by, for all that asks one over HTTPS.

Authorities come from a file that is named, else from ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` as for
other programs, else from the usual collection. A proxy is another matter, so these count for this
machine's servers, too.
"""

import os
import ssl
from collections.abc import Mapping
from functools import cache
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
        return _context(str(file), None, f"--cacert {file}")
    named, folder = environment.get(FILE_VARIABLE), environment.get(FOLDER_VARIABLE)
    if named or folder:
        return _context(named or None, folder or None, f"{FILE_VARIABLE} {named}")
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


def _context(file: str | None, folder: str | None, source: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except ssl.SSLError as error:
        raise InvalidInput(f"{source} holds no certificates as PEM: {error.reason}") from error
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from error
