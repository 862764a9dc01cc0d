"""The command line: `main` is the command ``vicinal``, one module per family of commands, imported
when one of them is asked for.

Commands that work with an index talk HTTP to a running server, as any client would
(`client.py`); ``serve``, ``token``, ``dump``, ``verify`` and
``doctor`` work on this machine's files, ``copy`` on any two stores.
Standard output carries the answer and nothing else, so that it can be piped; progress
and notes go to standard error. An expected error is one sentence and exit status 1.
"""

import errno
import importlib
import os

import click

from vicinal import errors

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "serve": "serve.command",
    "demo": "demo.command",
    "index": "index.group",
    "vector": "vectors.group",
    "import": "importing.command",
    "export": "exporting.command",
    "copy": "copying.command",
    "query": "query.command",
    "model": "model.group",
    "token": "token.group",
    "limits": "limits.command",
    "config": "config.group",
    "doctor": "doctor.command",
    "dump": "dump.command",
    "snapshot": "snapshot.group",
    "verify": "verify.command",
    "wrangler": "workers.wrangler_command",
    "run": "workers.run_command",
    "hook-path": "workers.hook_path_command",
    "mcp": "agents.command",
}
"""Name of a command -> the module here that has it, and its name there; in the order of pages."""


class _Main(click.Group):
    """Imports the command that is asked for, and shows an expected error as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(".")
        command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        from vicinal.settings import BadFlag

        try:
            return super().invoke(ctx)
        except BadFlag as error:  # settings are read after click has done its checks
            raise click.UsageError(str(error)) from error
        except errors.Error as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:  # a file that is missing, or may not be read; a full disk
            if error.errno is None or error.errno == errno.EPIPE:  # nobody reads on: click's
                raise
            file = error.filename or "standard output"
            raise click.ClickException(f"{file}: {os.strerror(error.errno)}") from error


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vicinal", prog_name="vicinal")
def main() -> None:
    """Vectorize on your own machine: vector search and text embeddings from one server."""
