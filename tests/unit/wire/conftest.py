"""Tests of the readers run with each way of reading an object, and lines of them.

All ways are run in one test: each is a fraction of what beginning and reporting a test takes, and
there are thousands of them. What fails names its ways.
"""

import inspect

import pytest

from tests.support.bodies import READERS, reading

_NAMES = ("simdjson", "careful")


@pytest.fixture
def compiled() -> bool:
    """Whether lines are read by what is compiled, if it is; a test that asks is run with both."""
    return True


@pytest.fixture
def quick(compiled: bool) -> None:
    """Run the test with each way of reading an object, with lines compiled and in Python."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that asks for `quick` once with each way."""
    if "compiled" not in pyfuncitem.fixturenames:
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    failed: list[BaseException] = []
    for name, reader in zip(_NAMES, READERS, strict=True):
        for compiled in (False, True):
            arguments = {each: pyfuncitem.funcargs[each] for each in names}
            if "compiled" in arguments:
                arguments["compiled"] = compiled
            try:
                with reading(reader, compiled=compiled):
                    pyfuncitem.obj(**arguments)
            except (Exception, pytest.fail.Exception) as error:
                error.add_note(f"read by {name}, lines {'compiled' if compiled else 'in Python'}")
                failed.append(error)
    if failed:
        raise BaseExceptionGroup("not with every way of reading", failed)
    return True
