"""What is written as an origin or a host, and what only looks like one."""

import pytest

from vicinal.sites import host, is_loopback, name_in, origin


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"localhost", "localhost"),
        (b"LOCALHOST:8790", "localhost"),
        (b"localhost.", "localhost"),
        (b"localhost:", "localhost"),
        (b"127.0.0.1:65535", "127.0.0.1"),
        (b"[::1]:8790", "::1"),
        (b"[0:0:0:0:0:0:0:1]", "::1"),
        (b"My-Host.Example:80", "my-host.example"),
        (b"vector_search", "vector_search"),
    ],
)
def test_a_name_is_found_in_a_host_header(header: bytes, name: str) -> None:
    assert name_in(header) == name


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b":80", b".", b"localhost..", b".localhost", b"a..localhost", b"::1", b"[::1"),
        *(b"localhost:65536", b"localhost:x", b"localhost:80:80", b"localhost:-1", b"localhost 1"),
        *(b"me@localhost", b"localhost@evil.example", b"localhost/", b"localhost?x", b"localhost#"),
        *(b"[::1%25lo]", b"[fe80::1%lo]", b"[::1]x", b"[localhost]", b"[127.0.0.1]", b"[:::]"),
        *(b"localhost,evil.example", b"localhost\x00", "löcal".encode(), b"http://localhost"),
        *(b"localhost\n", b"%6cocalhost", b"localhost:\xb2"),
    ],
)
def test_what_a_browser_would_not_write_as_a_host_is_none(header: bytes) -> None:
    assert name_in(header) is None


@pytest.mark.parametrize(
    ("header", "is_ours"),
    [
        (b"localhost", True),
        (b"app.localhost:80", True),
        (b"127.0.0.1", True),
        (b"127.255.255.254", True),
        (b"[::1]", True),
        (b"0.0.0.0", False),
        (b"[::]", False),
        (b"[::ffff:127.0.0.1]", False),
        (b"127.1", False),
        (b"0x7f.1", False),
        (b"0x7f000001", False),
        (b"2130706433", False),
        (b"0177.0.0.1", False),
        (b"127.0.0.01", False),
        (b"127.0.0.1.evil.example", False),
        (b"localhost.evil.example", False),
        (b"notlocalhost", False),
        (b"10.0.0.1", False),
        (b"localhost.localdomain", False),
    ],
)
def test_only_names_that_mean_this_machine_on_any_network_are_loopback(
    header: bytes, is_ours: bool
) -> None:
    name = name_in(header)
    assert name is not None
    assert is_loopback(name) is is_ours


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("https://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, written: str) -> None:
    assert origin(text) == written


@pytest.mark.parametrize(
    "text",
    ["*", "null", "app.example", "https://", "https://a/", "https://a/b", "https://*.a", "https://a:x",
     "https://a:65536", "https://me@a", "https://a?b", "https://ä", "https://a, https://b"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not the origin of a web page"):
        origin(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [("My-Host.Example.", "my-host.example"), ("[::1]", "::1"), ("FE80::1", "fe80::1")],
)
def test_a_host_is_a_name_or_an_address(text: str, written: str) -> None:
    assert host(text) == written


@pytest.mark.parametrize(
    "text", ["*", "*.a", "http://a", "a:80", "a/b", "a b", "", ".a", "a..b", "me@a"]
)
def test_what_is_no_host_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a host name nor an address"):
        host(text)


def test_few_names_are_remembered() -> None:
    for number in range(1_000):
        assert name_in(b"a%d.example" % number) == f"a{number}.example"
        assert not is_loopback(f"a{number}.example")

    for remembered in (name_in, is_loopback):
        assert remembered.cache_info().currsize < 100
