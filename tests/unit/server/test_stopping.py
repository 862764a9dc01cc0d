"""A server ends within its time, whoever it waits for."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.embedding_service import Answer, Asked, embedding_service
from tests.support.server import in_process
from tests.support.waiting import wait_until

ENDS_WITHIN_S = 45.0
"""Less than the minute after which a call of a model at another server is given up."""

CALLS = {
    "@cf/baai/bge-small-en-v1.5": {"text": ["a cat"]},
    "@cf/baai/bge-reranker-base": {"query": "cats", "contexts": [{"text": "a cat"}]},
}


def test_a_server_does_not_wait_for_models_that_do_not_answer(tmp_path: Path) -> None:
    released = threading.Event()

    def hold(_: Asked) -> Answer:
        assert released.wait(180)
        return Answer({}, status=500)

    with embedding_service(hold) as service, ThreadPoolExecutor() as clients:
        try:
            models = ("--embedding-url", service.url, "--reranking-url", service.url)
            with in_process(tmp_path, arguments=(*models, "--shutdown-timeout-s", "0")) as server:

                def ask(model: str) -> httpx.Response:
                    return httpx.post(
                        f"{server.base_url}/accounts/{server.account}/ai/run/{model}",
                        json=CALLS[model],
                        headers={"Authorization": f"Bearer {server.token}"},
                        timeout=180,
                    )

                answers = [clients.submit(ask, model) for model in CALLS]
                wait_until(lambda: len(service.asked) == len(CALLS))
                assert server.process is not None
                server.process.terminate()

                assert server.process.wait(ENDS_WITHIN_S) == 0
                assert [each.result().status_code for each in answers] == [503, 503]
        finally:
            released.set()
