"""A server with TLS is believed by the authority that --cacert or SSL_CERT_FILE names, also on
loopback."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.support.commands import Commands
from tests.support.tls import make_certificate, tls_front
from vicinal import trust
from vicinal.cli.client import Target
from vicinal.cli.workers import environment
from vicinal.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Secure:
    """The command line, told the address of a server with TLS."""

    vicinal: Commands
    certificate: Path


@pytest.fixture
def secure(vicinal: Commands, tmp_path: Path) -> Iterator[Secure]:
    certificate, key = make_certificate(tmp_path)
    with tls_front(vicinal.server.port, certificate, key) as port:
        url = {"VICINAL_URL": f"https://localhost:{port}", "SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}
        yield Secure(replace(vicinal, extra=url), certificate)


COMMANDS = (
    ("index", "list"),
    ("index", "create", "made", "--dimensions", "2", "--metric", "cosine"),
    ("snapshot", "list"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_authority_that_nobody_named_is_not_believed_and_how_to_name_it_is_said(
    secure: Secure, command: tuple[str, ...]
) -> None:
    said = secure.vicinal.fails(*command)

    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "--cacert" in said


@pytest.mark.parametrize("command", COMMANDS[:2])
def test_the_option_names_it(secure: Secure, command: tuple[str, ...]) -> None:
    secure.vicinal.ok(*command, "--cacert", secure.certificate)


@pytest.mark.parametrize("command", COMMANDS[:2])
def test_the_variable_names_it(secure: Secure, command: tuple[str, ...]) -> None:
    named = secure.vicinal.extra | {"SSL_CERT_FILE": str(secure.certificate)}

    replace(secure.vicinal, extra=named).ok(*command)


def test_the_option_is_stronger_than_the_variable(secure: Secure, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")
    named = secure.vicinal.extra | {"SSL_CERT_FILE": str(other)}
    commands = replace(secure.vicinal, extra=named)

    commands.ok("index", "list", "--cacert", secure.certificate)
    assert "CERTIFICATE_VERIFY_FAILED" in commands.fails("index", "list")


def test_vectors_are_imported_queried_and_exported_over_it(secure: Secure, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_text('{"id":"a","values":[1,0]}\n{"id":"b","values":[0,1]}\n')
    trusted = ("--cacert", secure.certificate)
    secure.vicinal.ok(
        "index", "create", "docs", "--dimensions", "2", "--metric", "cosine", *trusted
    )

    secure.vicinal.ok("import", "in.ndjson", "docs", "--wait", *trusted)
    found = secure.vicinal.ok("query", "docs", "--vector", "[1,0]", "--json", *trusted)
    secure.vicinal.ok("export", "docs", "out.ndjson", *trusted)

    assert '"a"' in found
    assert len((tmp_path / "out.ndjson").read_text().splitlines()) == 2


def test_indexes_are_copied_from_and_to_such_a_server(secure: Secure, tmp_path: Path) -> None:
    url = secure.vicinal.extra["VICINAL_URL"]
    secure.vicinal.ok(
        *("index", "create", "docs", "--dimensions", "2", "--metric", "cosine"),
        *("--cacert", secure.certificate),
    )
    copy = ("copy", url, tmp_path / "copied", "--account", "acme", "--index", "docs")

    failed = secure.vicinal.run(*copy, "--dry-run")
    secure.vicinal.ok(*copy, "--source-cacert", secure.certificate, "--without-tokens")

    assert failed.exit_code == 1
    assert (tmp_path / "copied" / "catalog.db").exists()


def test_a_command_that_is_shown_names_the_file(tmp_path: Path) -> None:
    target = Target("https://localhost:1", "t", "local", tmp_path / "a.pem")

    assert target.command("index", "list").endswith(f"--cacert {tmp_path / 'a.pem'}")


def test_node_tools_are_told_of_it(tmp_path: Path) -> None:
    target = Target("https://localhost:1", "t", "local", tmp_path / "a.pem")

    assert environment(target, {})["NODE_EXTRA_CA_CERTS"] == str(tmp_path / "a.pem")
    assert "NODE_EXTRA_CA_CERTS" not in environment(replace(target, cacert=None), {})


@pytest.mark.parametrize("content", [None, "nonsense", ""])
def test_a_file_without_certificates_is_named(vicinal: Commands, content: str | None) -> None:
    if content is not None:
        Path("a.pem").write_text(content)

    said = vicinal.fails("index", "list", "--cacert", "a.pem")

    assert "--cacert a.pem" in said
    assert ("cannot be read" if content is None else "holds no certificate") in said


def test_a_variable_that_names_no_certificates_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"SSL_CERT_FILE .*none cannot be read"):
        trust.verification(None, {"SSL_CERT_FILE": str(tmp_path / "none")})


def test_without_any_the_usual_collection_counts() -> None:
    usual = trust.verification(None, {})

    assert usual.verify_mode is ssl.CERT_REQUIRED
    assert usual.check_hostname
    assert usual.cert_store_stats()["x509_ca"] > 0
    assert sorted(usual.get_ca_certs(binary_form=True)) == sorted(
        httpx.create_ssl_context(trust_env=False).get_ca_certs(binary_form=True)
    )
    assert trust.verification(None, {"SSL_CERT_FILE": ""}) is usual  # it is read once


def test_certificates_are_read_once_for_all_clients_until_their_file_is_another(
    tmp_path: Path,
) -> None:
    (tmp_path / "other").mkdir()
    certificate, _ = make_certificate(tmp_path)
    first = trust.verification(certificate)

    assert trust.verification(certificate) is first
    assert trust.verification(None, {"SSL_CERT_FILE": str(certificate)}) is first

    make_certificate(tmp_path / "other")[0].replace(certificate)
    assert trust.verification(certificate).get_ca_certs() not in ([], first.get_ca_certs())
