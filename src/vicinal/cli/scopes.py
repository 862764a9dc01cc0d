"""Options that say which vectors are meant: a filter, a namespace, a prefix of ids.

The members of the request are those of the routes for scopes (`wire.schemas.ScopeRequest`). The
server reads the filter; here it must be JSON.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper

import click
import msgspec


@dataclass(frozen=True, slots=True)
class ScopeOptions:
    """The values of --filter (as JSON), --namespace and --prefix; None for those not given."""

    filter: object = None
    namespace: str | None = None
    prefix: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether none is given, so that all vectors are meant."""
        return self == ScopeOptions()

    def members(self) -> dict[str, object]:
        """Return the members of a request."""
        named = {"filter": self.filter, "namespace": self.namespace, "idPrefix": self.prefix}
        return {name: value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        texts = [
            f"in namespace {self.namespace!r}" if self.namespace is not None else "",
            f"whose id begins with {self.prefix!r}" if self.prefix is not None else "",
            "that pass the filter" if self.filter is not None else "",
        ]
        return " ".join(text for text in texts if text)


def scope_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --filter, --namespace and --prefix, and pass them to the command as `scope`."""

    @click.pass_context
    def with_scope(
        context: click.Context,
        /,
        filter_: str | None,
        namespace: str | None,
        prefix: str | None,
        **others: object,
    ) -> None:
        document = None if filter_ is None else json_option_value(filter_, "--filter")
        scope = ScopeOptions(document, namespace, prefix)
        context.invoke(command, scope=scope, **others)

    # Options go on last, as the wrapper gets those of the command in place of its own.
    wrapped = update_wrapper(with_scope, command)
    for option in (
        click.option("--prefix", help="Vectors whose id begins so."),
        click.option("--namespace", help="Vectors of this namespace only."),
        click.option("--filter", "filter_", metavar="JSON", help='Like {"year": {"$gte": 1960}}.'),
    ):
        wrapped = option(wrapped)
    return wrapped


def json_option_value(text: str, option: str) -> object:
    """Return the JSON in the value of an option.

    Raises:
        click.UsageError: there is none.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from error
    except RecursionError:
        raise click.UsageError(f"{option} is nested too deeply") from None
