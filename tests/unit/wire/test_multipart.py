"""The content of a part is found byte for byte, or the body is refused."""

import pytest

from vicinal.wire import multipart
from vicinal.wire.members import Malformed

HEAD = b'Content-Disposition: form-data; name="vectors"\r\n'


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\r\n", b"a\r\nb", b"\n", b"a\r", b"\r\n\r\nx", b"--bc", b"\r\n--bc", b"\0\xff"],
)
def test_content_is_returned_byte_for_byte(content: bytes) -> None:
    body = b"--b\r\n" + HEAD + b"\r\n" + content + b"\r\n--b--\r\n"

    assert multipart.part(body, "vectors", 10) == content


@pytest.mark.parametrize("end", [b"\r\n--b--", b"\r\n--b--\r\n", b"\r\n--b--\r\nafterword"])
def test_what_follows_the_last_boundary_is_ignored(end: bytes) -> None:
    assert multipart.part(b"--b\r\n" + HEAD + b"\r\nx" + end, "vectors", 10) == b"x"


@pytest.mark.parametrize(
    "head",
    [
        b'content-disposition: form-data; name="vectors"',
        b"CONTENT-DISPOSITION: form-data;name=vectors",
        b'Content-Disposition: form-data; filename="name"; name="vectors"',
        b'Content-Type: text/plain\r\nContent-Disposition: form-data; name="vectors"',
    ],
)
def test_a_name_is_found_in_any_order_and_case(head: bytes) -> None:
    assert multipart.part(b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--", "vectors", 10) == b"x"


def test_a_name_is_not_looked_for_in_the_content() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n' + HEAD + b"\r\n--b--"

    with pytest.raises(Malformed, match="without a part named 'vectors'; it has \\['other'\\]"):
        multipart.part(body, "vectors", 10)


def test_no_more_parts_are_looked_at_than_there_may_be() -> None:
    other = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
    wanted = b"--b\r\n" + HEAD + b"\r\nx\r\n--b--"

    assert multipart.part(other * 9 + wanted, "vectors", 10) == b"x"
    with pytest.raises(Malformed, match=r"^multipart body of more than 10 parts$"):
        multipart.part(other * 10 + wanted, "vectors", 10)


@pytest.mark.parametrize("cut", range(1, 70))
def test_a_body_cut_anywhere_before_its_last_boundary_is_refused(cut: int) -> None:
    body = b"--b\r\n" + HEAD + b"\r\n" + b"content\r\n--b--"

    with pytest.raises(Malformed):
        multipart.part(body[: max(1, len(body) - cut)], "vectors", 10)
