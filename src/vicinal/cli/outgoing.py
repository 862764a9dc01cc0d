"""Arguments of commands in the forms that a server is sent them in.

A shell passes on bytes that are no UTF-8, and JSON may be nested to any depth.
"""

from urllib.parse import quote

import click
import msgspec

from vicinal import metadata


def encoded(document: object) -> bytes:
    """Return JSON.

    Raises:
        click.ClickException: it is nested too deeply, or a text in it is not UTF-8.
    """
    try:
        return msgspec.json.encode(document)
    except RecursionError:
        raise click.ClickException("the request is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise _not_utf8(error) from None


def quoted(name: str, safe: str = "") -> str:
    """Return a name for a path.

    Raises:
        click.ClickException: it is not UTF-8.
    """
    try:
        return quote(name, safe=safe)
    except UnicodeEncodeError as error:
        raise _not_utf8(error) from None


def _not_utf8(error: UnicodeEncodeError) -> click.ClickException:
    return click.ClickException(f"{metadata.shown(error.object)} is not UTF-8")
