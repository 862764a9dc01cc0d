"""Variables that Kubernetes sets in every container for each service of its namespace.

A service that is called ``vicinal``, or ``vicinal-`` and more, gives variables that begin as those
of settings do, and ``VICINAL_PORT`` has even the name of one. Links of Docker set the same.
"""

import re

_NAMES = re.compile(
    r"VICINAL_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_PORT = re.compile(r"VICINAL_([A-Z0-9_]+_)?PORT")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+", re.ASCII)


def is_link(variable: str, value: str) -> bool:
    """Tell whether a variable is about a service, by its name or, where a setting has that, its
    value."""
    if _NAMES.fullmatch(variable):
        return True
    return _PORT.fullmatch(variable) is not None and _ADDRESS.fullmatch(value) is not None
