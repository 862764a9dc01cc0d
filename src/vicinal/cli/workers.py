"""``vicinal wrangler`` and ``vicinal hook-path``: Workers whose bindings lead to a server.

The work is done by ``hook.cjs`` of the npm package, which comes with this one: Node is told
to load it first, so nothing of the user's project has to change.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

import vicinal
from vicinal.cli.client import Target, target_options

HOOK = Path(vicinal.__file__).parent / "workers" / "hook.cjs"
"""The file that Node has to load first. In a checkout its folder is a link to the npm package."""


def environment(target: Target, outer: Mapping[str, str]) -> dict[str, str]:
    """Return `outer` with what makes Node tools use `target` alone.

    Credentials for Cloudflare itself are replaced: they are not for this server.
    """
    origin = target.url.rstrip("/").removesuffix("/client/v4")
    token = target.token.split(",")[0].strip()
    required = str(HOOK).replace("\\", "\\\\").replace('"', '\\"')
    return {
        **{name: value for name, value in outer.items() if name not in _CREDENTIALS},
        "NODE_OPTIONS": f'{outer.get("NODE_OPTIONS", "")} --require "{required}"'.strip(),
        "VICINAL_URL": origin,
        "VICINAL_TOKEN": token,
        "VICINAL_ACCOUNT": target.account,
        "CLOUDFLARE_API_BASE_URL": f"{origin}/client/v4",
        "CLOUDFLARE_API_TOKEN": token,
        "CLOUDFLARE_ACCOUNT_ID": target.account,
        # What wrangler asks of the internet by itself.
        "CLOUDFLARE_CF_FETCH_ENABLED": "false",
        "WRANGLER_SEND_METRICS": "false",
    }


_CREDENTIALS = frozenset(
    (
        *("CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL"),
        *("CF_API_BASE_URL", "CF_API_TOKEN", "CF_API_KEY", "CF_EMAIL", "CF_ACCOUNT_ID"),
    )
)


def find_wrangler(folder: Path) -> str:
    """Return the wrangler of the project that `folder` is in, else the one on the PATH."""
    for each in (folder, *folder.parents):
        found = each / "node_modules" / ".bin" / "wrangler"
        if found.exists():
            return str(found)
    on_path = shutil.which("wrangler")
    if on_path is None:
        raise click.ClickException(
            f"no wrangler in {folder} or above it; install it there: npm install -D wrangler"
        )
    return on_path


@click.command("hook-path")
def hook_path_command() -> None:
    """Print the file that makes Node tools use a Vicinal server.

    Load it first: NODE_OPTIONS="--require $(vicinal hook-path)" npx vitest
    """
    click.echo(HOOK)


@click.command("wrangler", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@target_options
def wrangler_command(target: Target, arguments: Sequence[str]) -> None:
    """Run the project's wrangler with its bindings and commands on a Vicinal server.

    Give wrangler's own arguments after two dashes: vicinal wrangler -- dev
    """
    program = find_wrangler(Path.cwd())
    os.execve(program, [program, *arguments], environment(target, os.environ))
