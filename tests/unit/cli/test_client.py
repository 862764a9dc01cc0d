"""The commands' client waits out overload, is patient when told to, and says what is wrong."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import click
import httpx
import pytest

from tests.support.commands import Commands
from vicinal.cli.client import FOUND_ACCOUNT_VARIABLE, ApiError, Client, Target

OK = httpx.Response(200, json={"success": True, "result": {}, "errors": [], "messages": []})


class Server:
    """Gives prepared answers, the last of them again and again."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.pauses: list[float] = []

    def client(self, patience_s: float) -> Client:
        http = httpx.Client(
            base_url="http://server",
            transport=httpx.MockTransport(lambda _request: self.answer()),
            timeout=60,
        )
        return Client(http, "acme", patience_s=patience_s, pause=self.pauses.append)

    def answer(self) -> httpx.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusal(status: int, **headers: str) -> httpx.Response:
    body = {"success": False, "result": None, "errors": [{"code": 40041, "message": "busy"}]}
    return httpx.Response(
        status, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_an_overloaded_server_is_asked_again_after_as_long_as_it_says() -> None:
    server = Server(refusal(429, retry_after="3"), refusal(503, retry_after="1"), OK)

    server.client(60).get("/")

    assert server.pauses == [3.0, 1.0]


@pytest.mark.parametrize("header", [{}, {"retry_after": "soon"}, {"retry_after": "-1"}])
def test_without_a_usable_retry_after_pauses_double(header: dict[str, str]) -> None:
    server = Server(*[refusal(429, **header)] * 3, OK)

    server.client(60).get("/")

    assert server.pauses == [0.25, 0.5, 1.0]


def test_patience_has_an_end_and_then_the_refusal_is_shown() -> None:
    server = Server(refusal(429, retry_after="4"))

    with pytest.raises(ApiError, match=r"busy \[code: 40041\]"):
        server.client(10).get("/")

    assert server.pauses == [4.0, 4.0, 2.0]


def test_an_impatient_client_asks_once() -> None:
    server = Server(refusal(429, retry_after="4"), OK)

    with pytest.raises(ApiError):
        server.client(0).get("/")

    assert server.pauses == []


def test_a_patient_client_says_once_why_nothing_happens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = Server(httpx.ConnectError("refused"), httpx.ConnectError("refused"), OK, OK)
    client = server.client(60)

    client.get("/")
    client.get("/")

    said = capsys.readouterr().err
    assert said == "no answer from http://server: refused; trying again for 60 s\n"


def test_a_patient_client_waits_for_a_server_that_restarts() -> None:
    server = Server(httpx.ConnectError("refused"), httpx.ReadError("cut off"), OK)

    server.client(60).get("/")

    assert server.pauses == [0.25, 0.5]


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    server = Server(httpx.ConnectError("Connection refused"))

    with pytest.raises(click.ClickException) as caught:
        server.client(0).get("/")

    assert "http://server" in caught.value.message
    assert "Connection refused" in caught.value.message
    assert "vicinal serve" in caught.value.message


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_other_refusals_are_final(status: int) -> None:
    server = Server(refusal(status), OK)

    with pytest.raises(ApiError) as caught:
        server.client(60).get("/")

    assert caught.value.status == status
    assert caught.value.codes == {40041}
    assert server.pauses == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[1]"])
def test_an_answer_of_something_else_than_a_server_is_told_apart(body: bytes) -> None:
    server = Server(httpx.Response(200, content=body))

    with pytest.raises(click.ClickException, match="is that a Vicinal server"):
        server.client(0).get("/")


def test_an_answer_of_an_unexpected_shape_is_not_taken_for_an_empty_one() -> None:
    server = Server(OK)

    with pytest.raises(click.ClickException, match="not of this API"):
        server.client(0).get("/").decode(list[int])


@pytest.mark.parametrize(
    "url",
    ["http://host:1", "http://host:1/", "http://host:1/client/v4", "http://host:1/client/v4/"],
)
def test_the_url_may_be_the_origin_or_the_base_url(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[httpx.Request] = []

    def handle(_transport: object, request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return OK

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)

    with Target(url, "one, two", "a b").connect() as client:
        client.get(client.indexes("c/d"))

    (request,) = seen
    assert str(request.url) == "http://host:1/client/v4/accounts/a%20b/vectorize/v2/indexes/c%2Fd"
    assert request.headers["authorization"] == "Bearer one"


@pytest.mark.parametrize("url", ["no url", "http://host:port", "ftp://host"])
def test_a_url_that_cannot_be_is_one_sentence(url: str) -> None:
    with pytest.raises(click.ClickException), Target(url, "t", "a").connect() as client:
        client.get("/")


def test_writes_tell_whether_they_became_visible() -> None:
    visible = httpx.Response(200, json=OK.json(), headers={"preference-applied": "wait=5"})

    assert Server(visible).client(0).write("/", b"", wait_s=5).is_visible
    assert not Server(OK).client(0).write("/", b"", wait_s=5).is_visible


def names(vicinal: Commands, *options: str) -> list[str]:
    listed = json.loads(vicinal.ok("index", "list", "--json", *options))
    return [index["name"] for index in listed]


def test_in_a_project_of_wranglers_commands_are_in_its_account(
    vicinal: Commands, tmp_path: Path
) -> None:
    sections = {"prod": {"account_id": "theirs"}}
    config = json.dumps({"account_id": "ours", "env": sections})
    (tmp_path / "wrangler.jsonc").write_text(f"// mine\n{config}")
    unsaid = replace(vicinal, extra={"VICINAL_ACCOUNT": ""})
    unsaid.ok("index", "create", "docs", "--dimensions", "2", "--metric", "cosine")
    unsaid.ok("import", "-", "docs", "--wait", stdin='{"id": "a", "values": [1, 0]}')

    assert names(unsaid) == names(vicinal, "--account", "ours") == ["docs"]
    assert '"a"' in unsaid.ok("query", "docs", "--vector", "1,0", "--json")
    assert '"a"' in unsaid.ok("export", "docs", "-")
    # What is said is stronger, and so is the environment that is chosen.
    assert names(vicinal) == names(unsaid, "--account", "local") == []
    prod = replace(unsaid, extra={**unsaid.extra, "CLOUDFLARE_ENV": "prod"})
    assert names(prod) == []
    found = replace(vicinal, extra={"VICINAL_ACCOUNT": "x", FOUND_ACCOUNT_VARIABLE: "x"})
    assert names(found) == ["docs"]


def test_the_account_of_a_project_is_told_where_it_does_not_spoil_an_answer(
    vicinal: Commands, tmp_path: Path
) -> None:
    (tmp_path / "wrangler.toml").write_text('account_id = "ours"')
    unsaid = replace(vicinal, extra={"VICINAL_ACCOUNT": ""})

    ran = unsaid.run("index", "list", "--json")

    assert json.loads(ran.stdout) == []
    assert f"in account ours, as {tmp_path / 'wrangler.toml'} says" in ran.stderr
    assert "in account" not in vicinal.run("index", "list").stderr


def test_a_project_whose_account_cannot_be_read_is_not_taken_for_another(
    vicinal: Commands, tmp_path: Path
) -> None:
    (tmp_path / "wrangler.json").write_text("{")

    complaint = replace(vicinal, extra={"VICINAL_ACCOUNT": ""}).fails("index", "list")

    assert "wrangler.json cannot be read" in complaint
    assert names(vicinal) == []


def test_a_line_to_copy_reaches_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "vicinal"
    program.parent.mkdir()
    program.touch()
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])

    monkeypatch.setenv("PATH", str(program.parent))
    default = Target("http://127.0.0.1:8790/client/v4/", "hush", "local")
    other = Target("http://127.0.0.1:9", "hush", "ac me")
    assert default.command("query", "docs") == "vicinal query docs"
    assert other.command("query") == "vicinal query --url http://127.0.0.1:9 --account 'ac me'"

    # What is not on the PATH has to be written out.
    monkeypatch.setenv("PATH", "")
    assert default.command("query") == f"{program} query"

    # In full: it is copied to other folders.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/vicinal"])
    assert default.command("query") == f"{program} query"
