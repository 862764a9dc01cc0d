"""Workers reach a server that needs no token, whatever name their runtime calls it by."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import MODEL
from tests.support.model_files import tiny_folder
from tests.support.ports import free_port
from tests.support.server import Running, in_thread
from tests.support.workers import PARAMETERS, Project, Runtime, running
from vicinal.app import create
from vicinal.settings import Settings

pytestmark = pytest.mark.node

INDEXES = {"VECTORIZE": "docs", "FAQ": "faq", "MISSING": "no-such-index"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("open")
    models = ((MODEL, str(tiny_folder(folder / "model"))),)
    settings = Settings(data=folder / "data", model_folders=models)
    with closing(create(settings)) as application, in_thread(application.asgi) as running:
        for name in ("docs", "faq"):
            httpx.post(
                f"{running.base_url}/accounts/{running.account}/vectorize/v2/indexes",
                json={"name": name, "config": {"dimensions": 2, "metric": "cosine"}},
                timeout=60,
            ).raise_for_status()
        yield running


@pytest.mark.parametrize("runtime", PARAMETERS)
def test_a_worker_reads_writes_and_embeds(
    runtime: Runtime, server: Running, tmp_path: Path
) -> None:
    with running(runtime, Project(tmp_path, server, INDEXES, free_port())) as worker:
        written = worker.call("VECTORIZE", "upsert", [{"id": "a", "values": [1, 2]}])
        described = worker.call("FAQ", "describe")
        embedded = worker.call("AI", "run", MODEL, {"text": ["an orange cloud"]})

    assert written["mutationId"]
    assert described["dimensions"] == 2
    assert embedded["shape"][0] == 1
