"""`vicinal mcp`: the official client lists the tools, calls them, and is told what is wrong."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp")

from mcp import Client as AgentClient
from mcp import StdioServerParameters
from mcp_types import CallToolResult

from tests.support.commands import Commands, Recorder
from tests.support.embedder import TINY
from tests.support.engines import DOCS
from vicinal.cli import agent_tools
from vicinal.cli.agent_tools import MATCHES_MAX, AgentTools, server_of
from vicinal.cli.client import Client, Target

READ = {"list_indexes", "describe_index", "search", "get"}
WRITE = {"upsert_texts", "delete"}
TEXTS = [
    {"id": "chess", "text": "two players move pieces", "metadata": {"year": 1950}},
    {"id": "rain", "text": "water falls from clouds", "metadata": {"year": 1990}},
]


@pytest.fixture
def client(vicinal: Commands) -> Iterator[Client]:
    """A client of a server that has an index of texts, with two of them, and one of vectors."""
    trusted = Target(vicinal.server.origin, vicinal.server.token, vicinal.server.account)
    with trusted.connect() as client:
        config = {"dimensions": 4, "metric": "cosine", "model": TINY}
        client.post(client.indexes(), {"name": "docs", "config": config, "description": "facts"})
        indexed = {"propertyName": "year", "indexType": "number"}
        client.post(client.indexes("docs", "metadata_index", "create"), indexed)
        plain = {"dimensions": 2, "metric": "euclidean"}
        client.post(client.indexes(), {"name": "plain", "config": plain})
        yield client


def called(
    client: Client,
    tool: str,
    arguments: dict[str, object] | None = None,
    *,
    writes: bool = True,
    indexes: tuple[str, ...] = (),
) -> CallToolResult:
    server = server_of(AgentTools(client, indexes), "1.2.3", writes=writes)

    async def call() -> CallToolResult:
        async with AgentClient(server) as agent:
            return await agent.call_tool(tool, arguments or {})

    return asyncio.run(call())


def result(
    client: Client, tool: str, arguments: dict[str, object] | None = None, **options: Any
) -> Any:
    answer = called(client, tool, arguments, **options)
    assert not answer.is_error, answer.content
    return answer.structured_content


def told(client: Client, tool: str, arguments: dict[str, object], **options: Any) -> str:
    """Return what is said of a call that must fail."""
    answer = called(client, tool, arguments, **options)
    assert answer.is_error
    (content,) = answer.content
    assert content.type == "text"
    return content.text


def names(client: Client, *, writes: bool) -> dict[str, Any]:
    server = server_of(AgentTools(client), "1.2.3", writes=writes)

    async def listed() -> dict[str, Any]:
        async with AgentClient(server) as agent:
            return {tool.name: tool for tool in (await agent.list_tools()).tools}

    return asyncio.run(listed())


def test_without_leave_there_are_tools_that_read_alone(client: Client) -> None:
    tools = names(client, writes=False)

    assert set(tools) == READ
    assert all(tool.annotations.read_only_hint for tool in tools.values())
    assert all(tool.description for tool in tools.values())


def test_with_leave_there_are_those_that_change_and_say_so(client: Client) -> None:
    tools = names(client, writes=True)

    assert set(tools) == READ | WRITE
    assert all(tools[name].annotations.destructive_hint for name in WRITE)
    assert not any(tools[name].annotations.read_only_hint for name in WRITE)


@pytest.mark.parametrize("tool", sorted(WRITE))
def test_a_tool_that_was_not_asked_for_cannot_be_called(
    client: Client, engine: Recorder, tool: str
) -> None:
    count = len(engine.appended)

    answer = called(client, tool, {"index": "docs", "ids": ["a"], "texts": TEXTS}, writes=False)

    assert answer.is_error
    assert len(engine.appended) == count


def test_indexes_are_listed_and_described(client: Client) -> None:
    listed = result(client, "list_indexes")
    described = result(client, "describe_index", {"index": "docs"})

    assert [each["name"] for each in listed["indexes"]] == ["docs", "plain"]
    assert described == {
        "name": "docs",
        "dimensions": 4,
        "metric": "cosine",
        "text_model": TINY,
        "description": "facts",
        "vector_count": 0,
        "filterable_properties": [{"name": "year", "type": "number"}],
        "text_properties": [],
    }


def test_texts_are_stored_found_read_and_deleted(client: Client) -> None:
    stored = result(client, "upsert_texts", {"index": "docs", "texts": TEXTS})
    found = result(client, "search", {"index": "docs", "text": TEXTS[0]["text"], "top_k": 2})
    filtered = result(
        client,
        "search",
        {"index": "docs", "text": "two", "filter": {"year": {"$gte": 1980}}},
    )
    read = result(client, "get", {"index": "docs", "ids": ["rain", "snow", "rain"]})
    deleted = result(client, "delete", {"index": "docs", "ids": ["rain"]})
    after = result(client, "get", {"index": "docs", "ids": ["rain"]})

    assert (stored["count"], stored["is_visible"]) == (2, True)
    assert found["matches"][0]["id"] == "chess"
    assert found["matches"][0]["metadata"] == {"year": 1950, "text": TEXTS[0]["text"]}
    assert found["left_out"] == 0
    assert [match["id"] for match in filtered["matches"]] == ["rain"]
    assert [vector["id"] for vector in read["vectors"]] == ["rain"]
    assert read["unknown_ids"] == ["snow"]
    assert read["vectors"][0]["values"] is None
    assert deleted["is_visible"]
    assert after["unknown_ids"] == ["rain"]


def test_a_vector_and_an_id_are_searched_by(client: Client) -> None:
    lines = b'{"id":"a","values":[1,1]}\n{"id":"b","values":[5,5],"namespace":"n"}'
    client.write(client.indexes("plain", "upsert"), lines, wait_s=30)

    by_vector = result(client, "search", {"index": "plain", "vector": [5, 5.5], "top_k": 1})
    by_id = result(client, "search", {"index": "plain", "id": "a", "top_k": 1})
    in_namespace = result(client, "search", {"index": "plain", "id": "a", "namespace": "n"})
    read = result(client, "get", {"index": "plain", "ids": ["a"], "values": True})

    assert [match["id"] for match in by_vector["matches"]] == ["b"]
    assert by_vector["matches"][0]["namespace"] == "n"
    assert [match["id"] for match in by_id["matches"]] == ["a"]
    assert [match["id"] for match in in_namespace["matches"]] == ["b"]
    assert read["vectors"][0]["values"] == [1, 1]


def test_a_note_of_the_server_reaches_the_model(client: Client) -> None:
    found = result(client, "search", {"index": "docs", "text": "a", "filter": {"color": "red"}})

    assert found["matches"] == []
    assert "has no metadata index" in found["notes"][0]


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("describe_index", {"index": "none"}, "[code: 3000]"),
        ("search", {"index": "none", "text": "a"}, "[code: 3000]"),
        ("search", {"index": "docs"}, "give one of text, vector and id, or words"),
        (
            "search",
            {"index": "docs", "text": "a", "id": "b"},
            "give one of text, vector and id, or words",
        ),
        ("search", {"index": "docs", "vector": [1, 2]}, "[code: 40006]"),
        ("search", {"index": "plain", "words": "a"}, "has no text index"),
        ("search", {"index": "docs", "text": "a", "filter": {"year": {"$no": 1}}}, "[code: 40094]"),
        ("search", {"index": "plain", "text": "a"}, "no known model makes the 2 dimensions"),
        ("search", {"index": "docs", "text": "a", "filter": {"k": "x" * 3_000}}, "maximum is 2047"),
        ("upsert_texts", {"index": "plain", "texts": TEXTS}, "no known model"),
        ("get", {"index": "none", "ids": ["a"]}, "[code: 3000]"),
        ("delete", {"index": "none", "ids": ["a"]}, "[code: 3000]"),
    ],
)
def test_an_error_is_a_sentence_for_the_model(
    client: Client, tool: str, arguments: dict[str, object], words: str
) -> None:
    assert words in told(client, tool, arguments)


@pytest.mark.parametrize(
    ("tool", "arguments", "member"),
    [
        ("search", {"index": "docs", "text": "a", "top_k": MATCHES_MAX + 1}, "top_k"),
        ("search", {"index": "docs", "text": "a", "top_k": 0}, "top_k"),
        ("search", {"index": "docs", "text": "a" * 20_001}, "text"),
        ("search", {"index": "docs", "vector": ["a"]}, "vector"),
        ("search", {"index": "docs", "words": ""}, "words"),
        ("search", {"index": "docs", "words": "a" * 8_193}, "words"),
        ("search", {"index": "", "text": "a"}, "index"),
        ("get", {"index": "docs", "ids": []}, "ids"),
        ("get", {"index": "docs", "ids": ["a"] * 21}, "ids"),
        ("get", {"index": "docs", "ids": ["a" * 513]}, "ids"),
        ("delete", {"index": "docs", "ids": ["a"] * 101}, "ids"),
        ("delete", {"index": "docs"}, "ids"),
        ("upsert_texts", {"index": "docs", "texts": []}, "texts"),
        ("upsert_texts", {"index": "docs", "texts": [{"id": "a", "text": ""}]}, "text"),
        ("upsert_texts", {"index": "docs", "texts": [{"id": "a", "text": "b"}] * 101}, "texts"),
        ("upsert_texts", {"index": "docs", "texts": [{"id": "a", "text": "b" * 20_001}]}, "text"),
    ],
)
def test_past_a_bound_nothing_is_asked_of_the_server(
    client: Client, engine: Recorder, tool: str, arguments: dict[str, object], member: str
) -> None:
    appended, asked = len(engine.appended), len(engine.asked)

    assert member in told(client, tool, arguments)
    assert (len(engine.appended), len(engine.asked)) == (appended, asked)


def test_a_result_that_would_be_too_long_is_cut_and_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_tools, "RESULT_BYTES_MAX", 80)
    result(client, "upsert_texts", {"index": "docs", "texts": TEXTS})

    found = result(client, "search", {"index": "docs", "text": "a"})
    read = result(client, "get", {"index": "docs", "ids": ["chess", "rain"]})

    assert (len(found["matches"]), found["left_out"]) == (1, 1)
    assert (len(read["vectors"]), read["left_out"]) == (1, 1)
    assert read["unknown_ids"] == []


def test_indexes_that_were_not_named_cannot_be_used(client: Client, engine: Recorder) -> None:
    count = len(engine.appended)

    listed = result(client, "list_indexes", indexes=("plain",))

    assert [each["name"] for each in listed["indexes"]] == ["plain"]
    for tool, arguments in (
        ("describe_index", {}),
        ("search", {"text": "a"}),
        ("get", {"ids": ["a"]}),
        ("upsert_texts", {"texts": TEXTS}),
        ("delete", {"ids": ["a"]}),
    ):
        words = told(client, tool, {"index": "docs", **arguments}, indexes=("plain",))
        assert "not one of those that may be used here: plain" in words
    assert len(engine.appended) == count


def environment(vicinal: Commands) -> dict[str, str]:
    return {
        **os.environ,
        "VICINAL_URL": vicinal.server.origin,
        "VICINAL_TOKEN": vicinal.server.token,
        "VICINAL_ACCOUNT": vicinal.server.account,
    }


@pytest.mark.usefixtures("client")
def test_an_agent_starts_it_and_talks_by_standard_input(vicinal: Commands) -> None:
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "vicinal", "mcp"], env=environment(vicinal)
    )

    async def talk() -> tuple[set[str], Any]:
        async with AgentClient(parameters) as agent:
            tools = {tool.name for tool in (await agent.list_tools()).tools}
            return tools, (await agent.call_tool("list_indexes", {})).structured_content

    tools, listed = asyncio.run(talk())

    assert tools == READ
    assert [each["name"] for each in listed["indexes"]] == ["docs", "plain"]


@pytest.fixture
def serving(vicinal: Commands, client: Client) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process that serves the tools by HTTP, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vicinal", "mcp", "--write", "--http", "--port", "0"],
        env=environment(vicinal),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "tools for agents are at http://127.0.0.1:" in line, line
        yield line.split()[-1], process
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()


@pytest.fixture
def address(serving: tuple[str, subprocess.Popen[str]]) -> str:
    return serving[0]


def test_an_agent_talks_by_http(address: str, engine: Recorder) -> None:
    async def talk() -> tuple[set[str], Any]:
        async with AgentClient(address) as agent:
            tools = {tool.name for tool in (await agent.list_tools()).tools}
            arguments = {"index": "docs", "texts": TEXTS}
            return tools, (await agent.call_tool("upsert_texts", arguments)).structured_content

    tools, stored = asyncio.run(talk())

    assert tools == READ | WRITE
    assert stored["count"] == 2
    assert engine.status(DOCS).vector_count == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"host": "evil.example"},
    ],
)
def test_a_web_page_cannot_use_it(address: str, headers: dict[str, str]) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accepts = {"accept": "application/json, text/event-stream", "content-type": "application/json"}

    answer = httpx.post(address, content=json.dumps(request), headers=accepts | headers)

    assert answer.status_code in (403, 421), answer.text


def test_it_ends_while_an_agent_listens(serving: tuple[str, subprocess.Popen[str]]) -> None:
    address, process = serving
    hello = {
        "protocolVersion": "2025-03-26",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    accepts = {"accept": "application/json, text/event-stream"}
    with httpx.Client(headers=accepts, timeout=60) as agent:
        answer = agent.post(address, json=request)
        session = {"mcp-session-id": answer.headers["mcp-session-id"]}
        with agent.stream("GET", address, headers=session) as listening:
            assert listening.status_code == 200
            process.terminate()

            process.wait(45)


def test_a_port_in_use_is_named(vicinal: Commands) -> None:
    port = str(vicinal.server.port)

    assert f"cannot listen on 127.0.0.1 port {port}" in vicinal.fails(
        "mcp", "--http", "--port", port
    )


def test_without_the_package_it_says_how_to_get_it(
    vicinal: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert "pip install 'vicinal[mcp]'" in vicinal.fails("mcp")


@pytest.mark.usefixtures("vicinal")
def test_it_imports_nothing_of_it_before_it_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys, vicinal.cli.docs; vicinal.cli.docs.markdown()\n"  # imports every command
        "assert 'vicinal.cli.agents' in sys.modules\n"
        "assert not {'mcp', 'pydantic'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
