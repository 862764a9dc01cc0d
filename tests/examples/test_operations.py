"""The commands of docs/operations.md do what the page says, on one server in its order.

Only ports and folders are others. Blocks that need a machine of one's own are checked as far as
they can be here: a block that nothing here names fails the last test.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import shell
from tests.support.documents import Block, blocks
from tests.support.ports import free_port
from tests.support.rerankers import pair_folder

BLOCKS = blocks(shell.ROOT / "docs" / "operations.md")


def block(beginning: str) -> Block:
    """Return the block that begins so."""
    (found,) = [each for each in BLOCKS if each.text.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Path]:
    """Where somebody works who has a server."""
    folder = tmp_path_factory.mktemp("operations")
    serve = block("vicinal model pull").text.splitlines()[-1].replace("/srv/vicinal", "srv")
    ready = f"http://127.0.0.1:{port}/readyz"
    command = f"{serve} --port {port}"
    with shell.running(command, folder, shell.environment(), ready):
        yield folder


def run(text: str, folder: Path, port: int) -> str:
    text = text.replace("/srv/vicinal", "srv").replace("127.0.0.1:8790", f"127.0.0.1:{port}")
    return shell.run(text, folder, shell.environment(VICINAL_URL=f"http://127.0.0.1:{port}"))


def test_an_index_is_exported_made_again_imported_and_explained(folder: Path, port: int) -> None:
    lines = [
        json.dumps({"id": "a", "values": [0.1, 0.2, 0.3], "metadata": {"topic": "music"}}),
        json.dumps({"id": "b", "values": [1, 0, 0]}),
    ]
    (folder / "in.ndjson").write_text("\n".join(lines))
    create = "vicinal index create docs --dimensions 3 --metric cosine"
    run(f"{create} --metadata-index topic:string", folder, port)
    run("vicinal import in.ndjson docs --wait", folder, port)

    run(block("vicinal export").text, folder, port)
    answer = json.loads(run(block("curl -H").text, folder, port))

    info = json.loads(run("vicinal index info copy --json", folder, port))
    assert info["vectorCount"] == 2
    assert [match["id"] for match in answer["result"]["matches"]] == ["a"]
    assert answer["result"]["explain"]


def test_a_server_is_backed_up_and_restored_while_it_serves(folder: Path, port: int) -> None:
    commands = block("vicinal snapshot create").text.replace("/backup", "backup")

    shown = run(commands.replace("/srv/restored", "restored"), folder, port)

    assert "restored snapshot" in shown
    assert (folder / "restored" / "catalog.db").exists()


def test_a_folder_is_verified_while_it_is_served(folder: Path, port: int) -> None:
    verified = run(block("vicinal verify").text, folder, port)

    assert "catalog" in verified
    assert "damaged" not in verified


def test_slow_queries_are_listed(folder: Path, port: int) -> None:
    text = block("curl -s -H").text.replace("127.0.0.1:8790", f"127.0.0.1:{port}")

    listed = json.loads(shell.run(text, folder, shell.environment(VICINAL_TOKEN="local")))

    assert listed["result"] == {"thresholdMs": 1000, "queries": []}


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    text = block("vicinal token create laptop").text.replace("/srv/vicinal", "tokens")
    *others, revoke = text.splitlines()
    (tmp_path / "tokens").mkdir(mode=0o700)
    listed = shell.run("\n".join(others), tmp_path, shell.environment())
    (token_id,) = re.findall(r"^([0-9a-f]{16}) +dashboard", listed, re.MULTILINE)

    revoke = re.sub(r"revoke [0-9a-f]+", f"revoke {token_id}", revoke)
    shell.run(revoke, tmp_path, shell.environment())

    left = shell.run("vicinal token list --data tokens", tmp_path, shell.environment())
    assert "laptop" in left
    assert "dashboard" not in left
    disable = block("vicinal token disable").text.replace("/srv/vicinal", "tokens")
    revoke_last = f"vicinal token revoke {re.findall('[0-9a-f]{16}', left)[0]} --data tokens"
    shell.run(f"{revoke_last}\n{disable}", tmp_path, shell.environment())


def test_a_server_whose_models_rank_texts_is_started(tmp_path: Path) -> None:
    pair_folder(tmp_path / "pairs", "bert")
    serve = block("vicinal serve --model-folders").text.replace(
        "/models/bge-reranker-base", "pairs"
    )
    own_port = free_port()
    origin = f"http://127.0.0.1:{own_port}"
    path = "/client/v4/accounts/local/ai/run/@cf/baai/bge-reranker-base"
    body = {"query": "which cloud?", "contexts": [{"text": "the orange cloud"}, {"text": "a"}]}

    command = f"{serve.strip()} --data srv --port {own_port}"
    with shell.running(command, tmp_path, shell.environment(), f"{origin}/readyz"):
        answer = httpx.post(f"{origin}{path}", json=body, timeout=60)

    ranked = answer.json()["result"]["response"]
    assert sorted(each["id"] for each in ranked) == [0, 1]


def test_every_block_of_commands_is_run_or_marked_as_one_that_cannot_be() -> None:
    source = Path(__file__).read_text()

    for each in BLOCKS:
        if each.language == "sh" and each.name != "install":
            words = each.text.split()
            assert any(f'"{" ".join(words[:count])}' in source for count in (2, 3, 4)), each.text
