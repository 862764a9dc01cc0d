"""What all tests share: the real model, a folder in memory, how hypothesis runs, what runs first.

Hypothesis has no deadlines, as nobody knows the machine's speed, and tries the same examples in
every run, so that a run says the same of the same code, whatever an earlier one has left behind.
``--hypothesis-profile=exploring`` tries others each time, ``thorough`` does so for minutes where
the default takes seconds. A failure prints what reproduces it.
"""

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings

import tests.support.one_thread  # noqa: F401 - before what imports numpy
from tests.support import ending
from tests.support.frames import with_room
from tests.support.memory import memory
from tests.support.models import pull_minilm
from tests.support.postgres import close_server, resume_server
from vicinal.errors import Unavailable

settings.register_profile(
    "ordinary",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("exploring", settings.get_profile("ordinary"), derandomize=False)
settings.register_profile("thorough", settings.get_profile("exploring"), max_examples=5_000)
settings.load_profile("ordinary")

GARBAGE_AFTER = 20_000
"""How many objects more than went are made between two searches for garbage. Python's 700 suit a
program of few objects; at that a tenth of the time of a test goes into it."""

LONGEST = (
    "wire/test_golden.py",
    "crash/test_disk_full.py",
    "conformance/test_engine.py",
    "property/test_http_fuzz.py",
    "property/test_engine_machine.py",
    "clients/test_wrangler.py",
    "property/test_approximate_answers.py",
    "browser/test_dashboard_access.py",
    "unit/server/http/test_uploads.py",
    "crash/test_database_failover.py",
    "crash/test_damage.py",
    "browser/test_dashboard_readings.py",
    "clients/test_real_texts.py",
    "unit/server/http/test_connections.py",
    "browser/test_dashboard_strangers.py",
    "crash/test_shared_servers_killed.py",
    "unit/ann/test_calibration.py",
    "crash/test_points.py",
    "browser/test_dashboard.py",
    "crash/test_snapshots.py",
    "unit/cli/test_serve.py",
    "unit/server/http/test_framing.py",
    "unit/server/api/test_chat.py",
    "unit/wire/test_lines.py",
    "examples/test_operations.py",
    "unit/moving/test_copying.py",
    "crash/test_sql_processes.py",
    "browser/test_dashboard_actions.py",
    "crash/test_hung_database.py",
    "unit/engine/test_embedded.py",
    "browser/test_web_pages.py",
    "unit/ann/test_compiled.py",
    "unit/server/api/test_snapshots.py",
    "unit/cli/test_agents.py",
    "unit/test_pytest_plugin.py",
    "unit/server/test_permissions.py",
    "browser/test_dashboard_troubles.py",
    "unit/d1/test_process.py",
    "unit/server/http/test_slow_readers.py",
    "conformance/test_cluster.py",
    "unit/native/test_structures.py",
    "property/test_shared_machine.py",
    "clients/test_hook.py",
    "crash/test_lost_answers.py",
    "conformance/test_ann_index.py",
    "crash/test_cut_fillings.py",
    "unit/cli/test_importing.py",
    "clients/test_bindings.py",
    "unit/server/test_identity.py",
    "unit/test_shared_servers.py",
    "unit/native/test_library.py",
    "unit/cli/test_vectors.py",
    "unit/readers/test_memory.py",
    "unit/wire/test_cost.py",
    "unit/moving/test_servers.py",
    "unit/cli/test_workers.py",
    "crash/test_kill.py",
    "examples/test_scale_out.py",
)
"""Files that take longest, by the clock of a run of all, the longest first: so that none is begun
late, and no process is left with one alone."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each process begin with other files of a folder than its neighbours do.

    All processes import all files, and what one has compiled another finds beside the source. In
    the same order they would compile each file at the same time, each for itself.
    """
    report = yield
    if isinstance(collector, pytest.Directory) and "PYTEST_XDIST_WORKER" in os.environ:
        place = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        first = len(report.result) * place // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        report.result = report.result[first:] + report.result[:first]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and all in the order that every process has."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda each: (places.get(each.path, len(places)), each.path))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in the tests themselves, now or later: they stay anyway."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test as pytest does, with room for its frames."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    with_room(lambda: runtestprotocol(item, nextitem=nextitem))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    resume_server()


def pytest_sessionfinish() -> None:
    close_server()


def pytest_unconfigure(config: pytest.Config) -> None:
    ending.bound(config)


@pytest.fixture(scope="session")
def minilm() -> None:
    """The real model, on this machine; where it cannot be had the test is skipped, loudly."""
    try:
        pull_minilm()
    except Unavailable as error:
        pytest.skip(f"needs a real model: {error}")


@pytest.fixture
def memory_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder in memory where there is room: syncing costs nothing there."""
    place = memory()
    if place is None:
        yield tmp_path_factory.mktemp("memory")
        return
    with tempfile.TemporaryDirectory(dir=place, prefix="vicinal-") as folder:
        yield Path(folder)
