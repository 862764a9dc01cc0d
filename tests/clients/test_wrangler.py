"""wrangler 4.86.0, the last for Node 20: all its `vectorize` commands, with another base URL."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Served
from tests.support.installed import node_package

pytestmark = pytest.mark.node

VERSION = "4.86.0"
COMMAND_ENDS_WITHIN_S = 300

_KEEPS_COMPILED = Path(__file__).parents[1] / "support" / "compiled.cjs"

_COLORS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and how it ended."""

    status: int
    text: str
    output: str

    @property
    def json(self) -> Any:
        """The JSON that follows whatever else was printed."""
        start = min(at for at in (self.output.find("{"), self.output.find("[")) if at >= 0)
        return json.loads(self.output[start:])


@dataclass(frozen=True, slots=True)
class Wrangler:
    """Runs commands as somebody would who has set five variables."""

    program: tuple[str, ...]
    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, status: int = 0) -> Said:
        ran = subprocess.run(
            [*self.program, "vectorize", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_ENDS_WITHIN_S,
        )
        said = Said(ran.returncode, _COLORS.sub("", ran.stdout + ran.stderr), ran.stdout)
        assert said.status == status, said.text
        return said


@pytest.fixture(scope="module")
def wrangler(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Wrangler:
    installed = node_package("wrangler", VERSION)
    node = shutil.which("node")
    assert node is not None
    folder = tmp_path_factory.mktemp("wrangler")
    return Wrangler(
        (node, str(installed / "node_modules" / "wrangler" / "bin" / "wrangler.js")),
        folder,
        {
            **os.environ,
            "NODE_OPTIONS": f'--require "{_KEEPS_COMPILED}"',
            "COMPILED_PROGRAM": "/wrangler-dist/cli.js",
            "COMPILED_KEPT": str(installed / "compiled"),
            "CLOUDFLARE_API_BASE_URL": served.running.base_url,
            "CLOUDFLARE_API_TOKEN": served.running.token,
            "CLOUDFLARE_ACCOUNT_ID": served.running.account,
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_HIDE_BANNER": "true",
            "CI": "1",
            "NO_COLOR": "1",
            "HOME": str(folder),
        },
    )


@pytest.fixture(scope="module")
def docs(wrangler: Wrangler) -> str:
    """An index of 25 vectors with a metadata index, made by wrangler."""
    wrangler(
        *("create", "docs", "--dimensions", "3", "--metric", "cosine"),
        *("--description", "made by wrangler"),
    )
    wrangler("create-metadata-index", "docs", "--propertyName", "k", "--type", "number")
    lines = [
        json.dumps(
            {
                "id": f"v{number}",
                "values": [1.0, number / 25, 0.5],
                "namespace": "n" if number < 5 else None,
                "metadata": {"k": number},
            }
        )
        for number in range(25)
    ]
    (wrangler.folder / "vectors.ndjson").write_text("\n".join(lines) + "\n")
    said = wrangler("insert", "docs", "--file", "vectors.ndjson", "--batch-size", "10")
    # 25 vectors in batches of 10.
    assert len(re.findall(r"identifier: [0-9a-f-]{36}", said.text)) == 3
    return "docs"


def test_an_index_is_created_shown_and_deleted(wrangler: Wrangler) -> None:
    made = wrangler("create", "new", "--dimensions", "4", "--metric", "euclidean", "--json")
    assert made.json["config"] == {"dimensions": 4, "metric": "euclidean"}

    assert "euclidean" in wrangler("get", "new").text
    assert "new" in wrangler("list").text
    assert "new" in [each["name"] for each in wrangler("list", "--json").json]

    assert "Deleted" in wrangler("delete", "new", "-y").text
    assert "code: 3000" in wrangler("get", "new", status=1).text


def test_an_index_is_created_from_a_preset(wrangler: Wrangler) -> None:
    made = wrangler("create", "preset", "--preset", "@cf/baai/bge-base-en-v1.5", "--json")

    assert made.json["config"]["dimensions"] == 768
    wrangler("delete", "preset", "-y")


def test_a_refusal_is_printed_with_its_code_and_text(wrangler: Wrangler, docs: str) -> None:
    said = wrangler("create", docs, "--dimensions", "3", "--metric", "cosine", status=1)

    assert 'duplicate_name - Index name "docs"' in said.text
    assert "code: 3002" in said.text


def test_info_counts_the_vectors_that_were_inserted(wrangler: Wrangler, docs: str) -> None:
    info = wrangler("info", docs, "--json").json

    assert (info["dimensions"], info["vectorCount"]) == (3, 25)
    assert info["processedUpToMutation"] in wrangler("info", docs).text


def test_upsert_takes_the_same_file_in_one_batch(wrangler: Wrangler, docs: str) -> None:
    said = wrangler("upsert", docs, "--file", "vectors.ndjson", "--json")

    assert said.json == {"index": docs, "count": 25}
    assert wrangler("info", docs, "--json").json["vectorCount"] == 25


def test_a_file_with_a_bad_line_is_refused_with_the_line(wrangler: Wrangler, docs: str) -> None:
    bad = '{"id":"x","values":[1,2,3]}\n{"id":"y","values":[1,2]}\n'
    (wrangler.folder / "bad.ndjson").write_text(bad)

    said = wrangler("upsert", docs, "--file", "bad.ndjson", status=1)

    assert 'invalid vector for id="y", expected 3 dimensions, and got 2 dimensions' in said.text
    assert wrangler("info", docs, "--json").json["vectorCount"] == 25


def test_a_query_by_vector_takes_namespace_filter_values_and_metadata(
    wrangler: Wrangler, docs: str
) -> None:
    found = wrangler(
        *("query", docs, "--vector", "1", "0", "0.5", "--top-k", "3"),
        *("--return-values", "--return-metadata", "all", "--namespace", "n"),
        # Not $gte: a typing error in wrangler's own check drops that operator.
        *("--filter", '{"k":{"$gt":0}}'),
    ).json

    assert [match["id"] for match in found["matches"]] == ["v1", "v2", "v3"]
    assert found["count"] == 3
    assert found["matches"][0]["metadata"] == {"k": 1}
    assert found["matches"][0]["namespace"] == "n"
    assert len(found["matches"][0]["values"]) == 3


def test_a_query_by_id_finds_that_vector_first(wrangler: Wrangler, docs: str) -> None:
    found = wrangler("query", docs, "--vector-id", "v7").json

    assert (found["count"], found["matches"][0]["id"]) == (5, "v7")


def test_vectors_are_fetched_by_id(wrangler: Wrangler, docs: str) -> None:
    got = wrangler("get-vectors", docs, "--ids", "v1", "v2", "never").json

    assert [vector["id"] for vector in got] == ["v1", "v2"]


def test_vectors_are_listed_page_by_page(wrangler: Wrangler, docs: str) -> None:
    assert "Showing 20 of 25" in wrangler("list-vectors", docs, "--count", "20").text
    first = wrangler("list-vectors", docs, "--count", "20", "--json").json
    second = wrangler(
        "list-vectors", docs, "--count", "20", "--cursor", first["nextCursor"], "--json"
    ).json

    listed = [vector["id"] for vector in first["vectors"] + second["vectors"]]
    assert sorted(listed) == sorted(f"v{number}" for number in range(25))


def test_metadata_indexes_are_listed_and_deleted(wrangler: Wrangler, docs: str) -> None:
    said = wrangler("create-metadata-index", docs, "--propertyName", "s", "--type", "string")
    assert re.search(r"Mutation changeset identifier: [0-9a-f-]{36}", said.text)

    assert re.search(r"k\s*│\s*number", wrangler("list-metadata-index", docs).text)
    assert wrangler("list-metadata-index", docs, "--json").json == [
        {"propertyName": "k", "indexType": "number"},
        {"propertyName": "s", "indexType": "string"},
    ]

    wrangler("delete-metadata-index", docs, "--propertyName", "s")
    assert len(wrangler("list-metadata-index", docs, "--json").json) == 1
    assert (
        "code: 40005"
        in wrangler("delete-metadata-index", docs, "--propertyName", "s", status=1).text
    )


def test_vectors_are_deleted_by_id(wrangler: Wrangler) -> None:
    wrangler("create", "short", "--dimensions", "3", "--metric", "cosine")
    line = '{"id":"x","values":[1,2,3]}\n'
    (wrangler.folder / "one.ndjson").write_text(line)
    wrangler("insert", "short", "--file", "one.ndjson")

    said = wrangler("delete-vectors", "short", "--ids", "x", "never")

    assert "2 vectors" in said.text
    assert wrangler("list-vectors", "short", "--json").json["totalCount"] == 0
    wrangler("delete", "short", "-y")


def test_the_account_is_found_when_none_is_configured(
    served: Served, wrangler: Wrangler, tmp_path: Path
) -> None:
    environment = {**wrangler.environment, "HOME": str(tmp_path)}
    del environment["CLOUDFLARE_ACCOUNT_ID"]

    # Elsewhere, as wrangler keeps an account that it has used in its folder.
    listed = Wrangler(wrangler.program, tmp_path, environment)("list", "--json")

    # The account it finds is not the one that the other tests use.
    assert listed.json == []
