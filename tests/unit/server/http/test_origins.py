"""A server that needs no token answers no other site's page, on no route and in no form."""

import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.support import sockets
from tests.support.asgi import INDEXES, Received, application, call
from tests.support.engines import create
from tests.support.generation_service import generation_service, streaming
from tests.support.model_engine import ModelEngine
from tests.support.server import in_thread
from vicinal.generation.base import Names
from vicinal.server.api.generation import GenerationConfig, Generator
from vicinal.server.api.services import ServerConfig
from vicinal.server.app import App
from vicinal.tokens import Permission, Tokens

ALLOWED = "https://app.example"
BINDING = {"x-vectorize-index": "docs", "x-vectorize-account": "acme"}
D1 = "/client/v4/accounts/acme/d1/database/texts/query"
EMBEDDINGS = "/client/v4/accounts/acme/ai/v1/embeddings"
EDGE_PREVIEW = "/client/v4/accounts/acme/workers/subdomain/edge-preview"

PLACES = [
    ("GET", INDEXES, {}),
    ("HEAD", INDEXES, {}),
    ("POST", INDEXES, {}),
    ("OPTIONS", INDEXES, {}),
    ("PATCH", INDEXES, {}),
    ("POST", f"{INDEXES}/docs/delete_by_ids", {}),
    ("DELETE", f"{INDEXES}/docs", {}),
    ("POST", D1, {}),
    ("POST", "/client/v4/accounts/acme/ai/run/@cf/baai/bge-small-en-v1.5", {}),
    ("POST", EMBEDDINGS, {}),
    ("GET", EDGE_PREVIEW, {}),
    ("GET", "/client/v4/user", {}),
    ("POST", "/query", BINDING),
    ("POST", "/deleteByIds", BINDING),
    ("GET", "/info", BINDING),
    ("GET", "/info", {}),
    ("GET", "/ai-api/models/search", {}),
    ("POST", "/miniflare/acme?index.V=docs", {"mf-url": "http://x/query", "mf-binding": "V"}),
    ("POST", "/miniflare/acme", {}),
    ("POST", "/", {"cf-workers-preview-token": "nonsense"}),
    ("GET", "/healthz", {}),
    ("GET", "/readyz", {}),
    ("GET", "/metrics", {}),
    ("GET", "/openapi.json", {}),
    ("GET", "/nothing/here", {}),
    ("OPTIONS", "/nothing/here", {}),
]  # fmt: skip

FOREIGN = [
    ({"origin": "http://evil.example"}, 40088, "allowed_origins"),
    ({"origin": "null"}, 40088, "allowed_origins"),
    ({"origin": ""}, 40088, "allowed_origins"),
    ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, 40088, "allowed_origins"),
    ({"origin": "http://localhost"}, 40088, "allowed_origins"),
    ({"origin": "https://localhost:8790"}, 40088, "allowed_origins"),
    ({"origin": "http://127.0.0.1:8790"}, 40088, "allowed_origins"),
    ({"sec-fetch-site": "cross-site"}, 40088, "allowed_origins"),
    ({"sec-fetch-site": "same-site"}, 40088, "allowed_origins"),
    ({"sec-fetch-site": "unheard-of"}, 40088, "allowed_origins"),
    ({"host": "evil.example:8790"}, 40087, "allowed_hosts"),
    ({"host": "evil.example:8790", "origin": "http://evil.example:8790"}, 40087, "allowed_hosts"),
    ({"host": "evil.example", "sec-fetch-site": "same-origin"}, 40087, "allowed_hosts"),
    ({"host": "localhost.evil.example"}, 40087, "allowed_hosts"),
    ({"host": "me@localhost"}, 40087, "allowed_hosts"),
    ({"host": "0x7f.1"}, 40087, "allowed_hosts"),
    ({"host": ""}, 40087, "allowed_hosts"),
    ({"host": "vector-search:8790"}, 40087, "allowed_hosts"),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    engine = ModelEngine()
    create(engine)
    return application(tmp_path_factory.mktemp("data"), engine=engine)


def foreign(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {"host": "localhost:8790", **headers}


@pytest.mark.parametrize(("method", "path", "beside"), PLACES, ids=lambda each: str(each)[:40])
def test_another_sites_request_is_refused_wherever_it_goes(
    app: App, method: str, path: str, beside: Mapping[str, str]
) -> None:
    for headers, code, setting in FOREIGN:
        got = call(app, method, path, headers={**beside, **foreign(headers)})

        assert got.status == 403, headers
        assert not [name for name in got.headers if name.startswith("access-control")]
        if method != "HEAD":
            error = _error(got)
            assert error[0] == code, headers
            assert setting in error[1]


def _error(got: Received) -> tuple[int, str]:
    """Return code and text of an error in any form."""
    body = got.json
    if isinstance(body.get("error"), dict):  # of OpenAI's clients
        return int(body["error"]["code"]), body["error"]["message"]
    if "error" in body:  # of bindings
        return body["code"], body["error"]
    assert body["success"] is False
    return body["errors"][0]["code"], body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/query", {"error", "code", "errors"}),
        ("/miniflare/acme", {"error", "code", "errors"}),
        ("/ai-api/models/search", {"error", "code", "errors"}),
        (EMBEDDINGS, {"error"}),
        (INDEXES, {"result", "success", "errors", "messages"}),
        ("/nothing", {"result", "success", "errors", "messages"}),
    ],
)
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
def test_the_refusal_has_the_form_that_the_routes_clients_read(
    app: App, method: str, path: str, form: set[str]
) -> None:
    got = call(app, method, path, headers={"host": "evil.example"})

    assert set(json.loads(got.body)) == form


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no Host at all, as HTTP/1.0 has it
        *({"host": host} for host in ("localhost", "LOCALHOST:8790", "localhost.:8790")),
        *({"host": host} for host in ("127.0.0.1:1", "127.9.9.9", "[::1]:8790", "app.localhost")),
        *({"host": f"host.{name}.internal:8790"} for name in ("docker", "containers")),
        # Node's fetch
        {"host": "localhost:8790", "sec-fetch-mode": "cors", "accept-language": "*"},
        {"host": "localhost:8790", "sec-fetch-site": "none"},
        {"host": "localhost:8790", "sec-fetch-site": "same-origin"},
        {"host": "localhost:8790", "origin": "http://localhost:8790"},
        {"host": "[::1]:8790", "origin": "http://[::1]:8790", "sec-fetch-site": "same-origin"},
    ],
    ids=str,
)  # fmt: skip
def test_programs_of_this_machine_and_pages_of_the_server_itself_are_answered(
    app: App, headers: Mapping[str, str]
) -> None:
    assert call(app, "GET", INDEXES, headers=headers).status == 200
    assert call(app, "GET", "/healthz", headers=headers).status == 200


def test_a_page_does_not_become_the_servers_own_by_a_name_for_programs(app: App) -> None:
    headers = {"host": "host.docker.internal:8790", "origin": "http://host.docker.internal:8790"}

    assert call(app, "POST", INDEXES, headers=headers).status == 403


@pytest.mark.parametrize("host", ["vector-search", "workers-binding.ai"])
def test_the_names_that_the_workers_runtime_gives_are_good_for_bindings_alone(
    app: App, host: str
) -> None:
    named = {"host": host}
    vector = {"vector": [1, 0]}

    assert call(app, "POST", "/query", vector, headers=BINDING | named).status == 200
    assert call(app, "GET", "/info", headers=BINDING | named).status == 200
    assert call(app, "GET", "/ai-api/models/search", headers=named).status == 200
    assert call(app, "GET", INDEXES, headers=named).status == 403
    assert call(app, "GET", "/metrics", headers=named).status == 403
    for host_and_port in (f"{host}:8790", f"{host}:80", f"{host}."):
        refused = call(app, "POST", "/query", vector, headers=BINDING | {"host": host_and_port})
        assert refused.status == 403
    page = BINDING | named | {"origin": f"http://{host}"}
    assert call(app, "POST", "/query", vector, headers=page).status == 403


def test_configured_names_are_answered_and_their_pages_too(tmp_path: Path) -> None:
    app = application(tmp_path, config=ServerConfig(allowed_hosts=("box.example", "2001:db8::1")))

    for host in ("box.example", "BOX.example.:8790", "[2001:DB8::1]:8790"):
        assert call(app, "GET", INDEXES, headers={"host": host}).status == 200
        page = {"host": host, "origin": f"http://{host.lower()}"}
        assert call(app, "GET", INDEXES, headers=page).status == 200
    assert call(app, "GET", INDEXES, headers={"host": "x.box.example"}).status == 403


@pytest.mark.parametrize("how", ["required", "created", "revoked"])
def test_where_a_token_is_needed_the_token_decides_and_other_sites_get_no_leave_to_read(
    tmp_path: Path, how: str
) -> None:
    app = application(tmp_path, config=ServerConfig(require_token=how == "required"), tokens=("t",))
    if how != "required":
        stored = Tokens(tmp_path / "tokens.db")
        token, _ = stored.create("one", Permission.WRITE)
        if how == "revoked":
            stored.revoke(token.id)
        stored.close()
    stranger = {"host": "evil.example", "origin": "http://evil.example"}

    refused = call(app, "GET", INDEXES, headers=stranger)
    let_in = call(app, "GET", INDEXES, headers=stranger | {"authorization": "Bearer t"})
    asked = call(app, "OPTIONS", INDEXES,
        headers=stranger | {"access-control-request-method": "POST"})  # fmt: skip

    assert (refused.status, let_in.status, asked.status) == (401, 200, 204)
    for got in (refused, let_in, asked):
        assert not [name for name in got.headers if name.startswith("access-control")]


PREFLIGHT = {
    "host": "localhost:8790",
    "origin": ALLOWED,
    "sec-fetch-site": "cross-site",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture(params=[False, True], ids=["without tokens", "with tokens"])
def cors(request: pytest.FixtureRequest, tmp_path: Path) -> App:
    config = ServerConfig(allowed_origins=(ALLOWED,), require_token=request.param)
    return application(tmp_path, config=config, tokens=("t",) if request.param else ())


@pytest.mark.parametrize("path", [INDEXES, D1, EMBEDDINGS, "/query", "/nothing", "/metrics"])
def test_an_allowed_origin_may_ask_first_without_a_token(cors: App, path: str) -> None:
    got = call(cors, "OPTIONS", path, headers=PREFLIGHT)

    assert got.status == 204
    assert got.headers["access-control-allow-origin"] == ALLOWED
    assert got.headers["vary"] == "Origin"
    assert "POST" in got.headers["access-control-allow-methods"]
    names = {
        name.strip().lower() for name in got.headers["access-control-allow-headers"].split(",")
    }
    assert {"authorization", "content-type", "prefer", "x-auth-key", "x-stainless-lang"} <= names
    assert got.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in got.headers
    assert "access-control-allow-private-network" not in got.headers


@pytest.mark.parametrize("network", ["private", "local"])
def test_leave_to_reach_a_private_address_is_given_to_an_allowed_origin_alone(
    cors: App, network: str
) -> None:
    asks = {f"access-control-request-{network}-network": "true"}

    allowed = call(cors, "OPTIONS", INDEXES, headers=PREFLIGHT | asks)
    other = call(
        cors, "OPTIONS", INDEXES, headers=PREFLIGHT | asks | {"origin": "https://a.example"}
    )

    assert allowed.headers[f"access-control-allow-{network}-network"] == "true"
    assert not [name for name in other.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INDEXES, 200),
        ("GET", "/nothing", 404),
        ("PUT", INDEXES, 405),
        ("POST", INDEXES, 400),
    ],
)
def test_an_allowed_origin_can_read_answers_and_errors(
    cors: App, method: str, path: str, status: int
) -> None:
    headers = {"host": "localhost", "origin": ALLOWED, "sec-fetch-site": "cross-site"}

    got = call(cors, method, path, headers=headers | {"authorization": "Bearer t"})
    unknown = call(cors, method, path, headers=headers | {"origin": "https://a.example"})

    assert got.status == status
    assert got.headers["access-control-allow-origin"] == ALLOWED
    assert "Retry-After" in got.headers["access-control-expose-headers"]
    assert got.headers["vary"] == "Origin"
    assert unknown.status != 200
    assert "access-control-allow-origin" not in unknown.headers
    assert unknown.headers["vary"] == "Origin"


def test_what_is_no_list_of_header_names_is_not_sent_back(cors: App) -> None:
    for names in ("a b", "a\x00", "a" * 5_000, ",", "a: b", ""):
        asked = PREFLIGHT | {"access-control-request-headers": names}
        got = call(cors, "OPTIONS", INDEXES, headers=asked)
        assert got.status == 204
        assert got.headers["access-control-allow-headers"].endswith("X-Auth-Key")


def test_an_allowed_origin_is_no_leave_to_use_another_name(tmp_path: Path) -> None:
    app = application(tmp_path, config=ServerConfig(allowed_origins=(ALLOWED,)))

    for method in ("OPTIONS", "POST"):
        got = call(app, method, INDEXES, headers=PREFLIGHT | {"host": "evil.example"})
        assert got.error[:2] == (403, 40087)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n", 403),
        (b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n", 403),
        (b"GET http://evil@localhost.evil.example/ HTTP/1.1\r\nHost: localhost\r\n", 403),
        (b"GET http://localhost@evil.example/ HTTP/1.1\r\nHost: localhost\r\n", 403),
        (b"GET http:///healthz HTTP/1.1\r\nHost: localhost\r\n", 403),
        (b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"GET HTTP://[::1]:80/healthz HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://[::1]\r\nOrigin: http://a\r\n", 403),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n", 200),
        (b"GET / HTTP/1.0\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", 403),
    ],
)  # fmt: skip
def test_a_name_in_the_target_and_headers_sent_twice_are_looked_at_too(
    tmp_path: Path, head: bytes, status: int
) -> None:
    with in_thread(application(tmp_path)) as running, running.connect() as connection:
        connection.sendall(head + b"\r\n")
        assert sockets.answer(connection)[0] == status


def test_a_websocket_of_another_site_is_refused_as_every_websocket(tmp_path: Path) -> None:
    with in_thread(application(tmp_path)) as running, running.connect() as connection:
        connection.sendall(
            b"GET /miniflare/acme HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert sockets.answer(connection)[0] == 426


def test_a_page_of_an_allowed_origin_can_read_a_stream_too(tmp_path: Path) -> None:
    model = "@cf/meta/llama-3.1-8b-instruct"
    path = f"/client/v4/accounts/acme/ai/run/{model}"
    asked = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    with generation_service(streaming(["a", "b"])) as service:
        generator = Generator(GenerationConfig(service.url, "key", Names({model: "llama"})))
        config = ServerConfig(allowed_origins=(ALLOWED,))
        with in_thread(application(tmp_path, config=config, generator=generator)) as running:
            url = f"{running.origin}{path}"
            answered = httpx.post(url, json=asked, headers={"origin": ALLOWED}, timeout=60)
            foreign = httpx.post(
                url, json=asked, headers={"origin": "https://a.example"}, timeout=60
            )

    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.headers["access-control-allow-origin"] == ALLOWED
    assert foreign.status_code == 403
    assert len(service.asked) == 1
