"""The command line: `main` is the command ``vicinal``, one module per family of commands.

Commands that work with an index talk HTTP to a running server, as any client would
(`client.py`); ``serve``, ``token``, ``dump``, ``verify`` and
``doctor`` work on this machine's files, ``copy`` on any two stores.
Standard output carries the answer and nothing else, so that it can be piped; progress
and notes go to standard error. An expected error is one sentence and exit status 1.
"""

import click

from vicinal import errors
from vicinal.cli import (
    agents,
    config,
    copying,
    demo,
    doctor,
    dump,
    exporting,
    importing,
    index,
    limits,
    model,
    query,
    serve,
    snapshot,
    token,
    vectors,
    verify,
    workers,
)
from vicinal.settings import BadFlag

__all__ = ["main"]


class _Main(click.Group):
    """Shows an expected error as one sentence instead of a trace."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except BadFlag as error:  # settings are read after click has done its checks
            raise click.UsageError(str(error)) from error
        except errors.Error as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vicinal", prog_name="vicinal")
def main() -> None:
    """Vectorize on your own machine: vector search and text embeddings from one server."""


for command in (
    serve.command,
    demo.command,
    index.group,
    vectors.group,
    importing.command,
    exporting.command,
    copying.command,
    query.command,
    model.group,
    token.group,
    limits.command,
    config.group,
    doctor.command,
    dump.command,
    snapshot.group,
    verify.command,
    workers.wrangler_command,
    workers.run_command,
    workers.hook_path_command,
    agents.command,
):
    main.add_command(command)
