"""Names of indexes on the command line, which a shell completes by asking the server.

Completing must be quick and must not fail: without an answer in `ANSWER_S` there are no names.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx
from click.shell_completion import CompletionItem

from vicinal.cli.client import (
    ANY_TOKEN,
    Client,
    IndexResponse,
    TargetOptions,
)
from vicinal.cli.shell_lines import DEFAULT_URL
from vicinal.cli.wrangler_config import ConfigSelection, named_account

ANSWER_S = 1.0
"""Ours: a person waits for it at a key."""

F = TypeVar("F", bound=Callable[..., Any])


def index_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of the account's indexes that begin so; none without an answer."""
    given = TargetOptions(
        context.params.get("url") or DEFAULT_URL,
        context.params.get("token") or ANY_TOKEN,
        context.params.get("account"),
    )
    try:
        named = None
        if given.account is None:
            named = named_account(ConfigSelection(Path.cwd()), os.environ)
        with given.target(named).http(httpx.Timeout(ANSWER_S)) as http:
            client = Client(http, given.target(named).account)
            indexes = client.get(client.indexes()).decode(list[IndexResponse])
    except (click.ClickException, OSError, ValueError):
        return []
    return [
        CompletionItem(index.name, help=index.description)
        for index in indexes
        if index.name.startswith(incomplete)
    ]


def files_and_index_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Have files completed, and behind the first one names of indexes, too."""
    files = [CompletionItem(incomplete, type="file")]
    # Of words before the one that is begun, the last is taken for the index by now.
    has_file = context.params.get("index") is not None
    return [*files, *index_names(context, parameter, incomplete)] if has_file else files


def named_index_argument(name: str) -> Callable[[F], F]:
    """Return a decorator that adds an argument for an index that is there."""
    return click.argument(name, shell_complete=index_names)


index_argument = named_index_argument("index")
"""Adds the argument INDEX."""
