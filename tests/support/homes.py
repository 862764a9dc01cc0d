"""Users without a home, as containers run programs as."""

import os
import pwd

import pytest


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user whom the system knows by a number alone, with no ``HOME`` set."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert os.path.expanduser("~") == "~"  # noqa: PTH111 what pathlib asks
