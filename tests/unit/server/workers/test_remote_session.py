"""wrangler sets up a remote session in three calls, and its bindings then reach their indexes."""

import json
from pathlib import Path

import pytest

from tests.support.asgi import Received, application, call
from tests.support.engines import create
from tests.support.model_engine import ModelEngine
from vicinal.errors import UnknownSession
from vicinal.server.app import App
from vicinal.server.workers import sessions
from vicinal.server.workers.sessions import Bindings, Sessions
from vicinal.tokens import Permission, Tokens

WORKERS = "/client/v4/accounts/acme/workers"
BY_TOKEN = {"Authorization": "Bearer secret"}
METADATA = {
    "main_module": "ProxyServerWorker.js",
    "compatibility_date": "2025-04-28",
    "bindings": [
        {"name": "VECTORIZE", "type": "vectorize", "index_name": "docs", "raw": True},
        {"name": "AI", "type": "ai", "raw": True},
        {"name": "BUCKET", "type": "r2_bucket", "bucket_name": "b", "raw": True},
    ],
}


@pytest.fixture
def app(tmp_path: Path) -> App:
    engine = ModelEngine()
    create(engine)
    return application(tmp_path, engine=engine, tokens=["secret"])


def form(**parts: str) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body as wrangler's HTTP client writes it, and its header."""
    boundary = "----formdata-undici-047281130465"
    body = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{content}\r\n'
        for name, content in parts.items()
    )
    content_type = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return f"{body}--{boundary}--\r\n".encode(), content_type


def upload(
    app: App,
    metadata: str = json.dumps(METADATA),
    path: str = "scripts/app",
    headers: dict[str, str] | None = None,
) -> Received:
    body, content_type = form(
        metadata=metadata,
        **{"proxy-worker.js": "export default {}", "wrangler-session-config": "{}"},
    )
    return call(
        app,
        "POST",
        f"{WORKERS}/{path}/edge-preview",
        body,
        headers={**content_type, **(BY_TOKEN if headers is None else headers)},
    )


def ask(app: App, token: str, binding: str = "VECTORIZE") -> Received:
    """Ask for an index's state as a binding does through the session."""
    return call(
        app,
        "GET",
        "/",
        headers={
            "cf-workers-preview-token": token,
            "MF-Binding": binding,
            "MF-URL": "http://vector-search/info",
            "MF-Original-URL": "http://localhost:8787/",
        },
    )


@pytest.mark.parametrize("path", ["subdomain", "scripts/app/subdomain"])
def test_leave_to_upload_is_a_token_without_an_address_to_exchange_it_at(
    app: App, path: str
) -> None:
    answer = call(app, "GET", f"{WORKERS}/{path}/edge-preview", headers=BY_TOKEN)

    assert list(answer.result) == ["token"]
    assert len(answer.result["token"]) > 20


def test_uploaded_workers_answer_on_this_machine(app: App) -> None:
    subdomain = call(app, "GET", f"{WORKERS}/subdomain", headers=BY_TOKEN).result["subdomain"]

    # wrangler's own way to the address.
    host = f"https://app.{subdomain}.workers.dev".removeprefix("https://").split("/")[0]
    assert host == "app.localhost"


@pytest.mark.parametrize("path", ["scripts/app", "services/app/environments/staging"])
def test_the_upload_maps_each_binding_to_its_index(app: App, path: str) -> None:
    token = upload(app, path=path).result["preview_token"]

    answer = ask(app, token)

    assert answer.status == 200
    assert answer.json["dimensions"] == 2


def test_a_binding_of_another_type_is_not_mapped(app: App) -> None:
    token = upload(app).result["preview_token"]

    answer = ask(app, token, "BUCKET")

    assert answer.status == 400
    assert "it maps VECTORIZE;" in answer.json["error"]


def test_a_session_is_let_in_by_the_token_of_its_upload(app: App) -> None:
    tokens = app.services.tokens
    assert isinstance(tokens, Tokens)
    token, secret = tokens.create("reader", Permission.READ)
    by_key = {"X-Auth-Email": "me@example.com", "X-Auth-Key": secret}
    preview = upload(app, headers=by_key).result["preview_token"]

    before = ask(app, preview)
    tokens.revoke(token.id)
    after = ask(app, preview)

    assert (before.status, after.status) == (200, 401)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_without_a_good_token_there_is_no_session(app: App, headers: dict[str, str]) -> None:
    assert upload(app, headers=headers).error[:2] == (401, 9106)


@pytest.mark.parametrize(
    "metadata", ["", "not json", "[]", '{"bindings": 5}', '{"bindings": [{"name": 1}]}']
)
def test_metadata_that_cannot_be_read_is_refused(app: App, metadata: str) -> None:
    status, code, text = upload(app, metadata).error

    assert (status, code) == (400, 40026)
    assert "metadata" in text


def test_an_upload_without_metadata_is_refused(app: App) -> None:
    body, content_type = form(other="x")

    answer = call(
        app,
        "POST",
        f"{WORKERS}/scripts/app/edge-preview",
        body,
        headers={**content_type, **BY_TOKEN},
    )

    assert answer.error[:2] == (400, 40026)


def test_an_unknown_session_makes_wrangler_begin_a_new_one(app: App) -> None:
    answer = ask(app, "of-another-process")

    assert answer.status == 400
    assert answer.json["error"].startswith("Invalid Workers Preview configuration")


def test_a_session_that_runs_a_worker_of_ones_own_is_told_that_nothing_does(app: App) -> None:
    token = upload(app).result["preview_token"]

    answer = call(app, "GET", "/", headers={"cf-workers-preview-token": token})

    assert answer.status == 400
    assert "MF-URL" in answer.json["error"]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends() -> None:
    clock = Clock()
    kept = Sessions(clock)
    token = kept.add(Bindings("acme", None, {}))

    clock.now += sessions.SESSION_S - 1
    assert kept.bindings(token).account == "acme"

    clock.now += 1
    with pytest.raises(UnknownSession):
        kept.bindings(token)


def test_the_oldest_session_ends_when_there_are_too_many() -> None:
    kept = Sessions()
    tokens = [kept.add(Bindings(str(n), None, {})) for n in range(sessions.SESSIONS_MAX + 1)]

    with pytest.raises(UnknownSession):
        kept.bindings(tokens[0])
    assert kept.bindings(tokens[1]).account == "1"
    assert kept.bindings(tokens[-1]).account == str(sessions.SESSIONS_MAX)


def test_the_upload_of_a_worker_is_bounded(app: App) -> None:
    path = "/client/v4/accounts/acme/workers/scripts/x/edge-preview"
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b", **BY_TOKEN}

    many = call(app, "POST", path, 200_000 * part + b"--b--", headers=headers)
    assert many.error[0] == 400
    assert "parts" in many.error[2]
    size = app.services.limits.worker_body_bytes_max + 1
    assert call(app, "POST", path, b"x" * size, headers=headers).error[0] == 413
