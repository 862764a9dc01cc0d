"""``vicinal wrangler``, ``run`` and ``hook-path``: Workers whose bindings lead to a server.

The work is done by ``hook.cjs`` of the npm package, which comes with this one: Node is told
to load it first, so nothing of the user's project has to change. Before a program is started,
the server is asked whether it is there: wrangler would say it in a stack trace.
"""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import click
import httpx
import msgspec

import vicinal
from vicinal import trust
from vicinal.cli import show
from vicinal.cli.client import (
    FOUND_ACCOUNT_VARIABLE,
    ApiError,
    Target,
    TargetOptions,
    given_options,
    open_envelope,
)
from vicinal.cli.wrangler_commands import parse, wrangler_arguments
from vicinal.cli.wrangler_config import named_account
from vicinal.errors import reason_of

HOOK = Path(vicinal.__file__).parent / "workers" / "hook.cjs"
"""The file that Node has to load first. In a checkout its folder is a link to the npm package."""


ANSWERS_WITHIN_S = 5.0
"""Time in which a server must show that it runs. Ours."""


def environment(
    target: Target, outer: Mapping[str, str], *, is_account_given: bool = True
) -> dict[str, str]:
    """Return `outer` with the variables that make Node tools use `target` alone.

    Credentials for Cloudflare itself are replaced: they are not for this server.

    Args:
        is_account_given: Whether the account is from the command line or a variable. An account
            that a configuration names is only for programs that read that configuration.
    """
    origin, token = target.origin, target.secret
    required = str(HOOK).replace("\\", "\\\\").replace('"', '\\"')
    return {
        **{name: value for name, value in outer.items() if name not in _REPLACED},
        **({} if is_account_given else {FOUND_ACCOUNT_VARIABLE: target.account}),
        "NODE_OPTIONS": f'{outer.get("NODE_OPTIONS", "")} --require "{required}"'.strip(),
        "VICINAL_URL": origin,
        "VICINAL_TOKEN": token,
        "VICINAL_ACCOUNT": target.account,
        "CLOUDFLARE_API_BASE_URL": f"{origin}/client/v4",
        "CLOUDFLARE_API_TOKEN": token,
        "CLOUDFLARE_ACCOUNT_ID": target.account,
        # Requests that wrangler sends to the internet unasked.
        "CLOUDFLARE_CF_FETCH_ENABLED": "false",
        "WRANGLER_SEND_METRICS": "false",
        **(
            {"NODE_EXTRA_CA_CERTS": str(target.cacert.resolve())}
            if target.cacert is not None
            else {}
        ),
    }


_REPLACED = frozenset(
    (
        FOUND_ACCOUNT_VARIABLE,
        *("CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL"),
        *("CF_API_BASE_URL", "CF_API_TOKEN", "CF_API_KEY", "CF_EMAIL", "CF_ACCOUNT_ID"),
    )
)


def find_wrangler(folder: Path) -> str:
    """Return the wrangler of the project that `folder` is in, else the one on the PATH."""
    program = _in_project(folder, "wrangler") or shutil.which("wrangler")
    if program is None:
        raise click.ClickException(
            f"no wrangler in {folder} or above it; install it there: npm install -D wrangler"
        )
    return program


def find_program(folder: Path, name: str) -> str:
    """Return the program on the PATH, else the one of the project that `folder` is in."""
    program = shutil.which(name) or _in_project(folder, name)
    if program is None:
        raise click.ClickException(
            f"no program {name} on the PATH, nor in the node_modules of {folder} or above it"
        )
    return program


def _in_project(folder: Path, name: str) -> str | None:
    programs = (parent / "node_modules" / ".bin" / name for parent in (folder, *folder.parents))
    return next((str(program) for program in programs if program.exists()), None)


def require_server(target: Target) -> None:
    """Return if a Vicinal server answers and knows the token.

    Raises:
        click.ClickException: the token is refused, or no whole answer comes within
            `ANSWERS_WITHIN_S`.
    """
    answers: list[str | None] = []
    # The bound holds for the whole answer, and a socket's is for each of its parts.
    asking = threading.Thread(target=lambda: answers.append(_problem_with(target)), daemon=True)
    asking.start()
    asking.join(ANSWERS_WITHIN_S)
    if not answers:
        raise click.ClickException(_no_answer(target))
    if answers[0] is not None:
        raise click.ClickException(answers[0])


_REMEDY = "`vicinal serve` starts one; --url or VICINAL_URL names another"


def _no_answer(target: Target) -> str:
    return f"no server answers at {target.origin} within {ANSWERS_WITHIN_S:g} s. {_REMEDY}"


class _Health(msgspec.Struct):
    status: str


def _problem_with(target: Target) -> str | None:
    """Return a sentence about a server that cannot be used, None if it can."""
    try:
        with target.http(httpx.Timeout(ANSWERS_WITHIN_S)) as http:
            health = http.get(f"{target.origin}/healthz")
            # Other servers have such a page, too, but not this API.
            verified = http.get("/user/tokens/verify")
    except click.ClickException as error:
        return error.message
    except httpx.TimeoutException:
        return _no_answer(target)
    except (httpx.TransportError, httpx.DecodingError) as error:
        reason = trust.with_remedy(reason_of(error))
        return f"no server answers at {target.origin} ({reason}). {_REMEDY}"
    try:
        status = msgspec.json.decode(health.content, type=_Health).status
        is_ours = health.is_success and status == "ok"
        open_envelope(verified)
    except ApiError as refused:
        # wrangler says this as well, but beside the traces of its next attempts.
        if is_ours and refused.status in (401, 403):
            reasons = "; ".join(refused.texts)
            return (
                f"{target.origin} refuses the token: {reasons}. "
                "Give one by --token or VICINAL_TOKEN"
            )
    except (msgspec.MsgspecError, click.ClickException):
        is_ours = False
    if is_ours:
        return None
    return f"what answers at {target.origin} is not a Vicinal server. {_REMEDY}"


@click.command("hook-path")
def hook_path_command() -> None:
    """Print the file that makes Node tools use a Vicinal server, for tools that start Node.

    NODE_OPTIONS='--require "FILE"' has it loaded first; `vicinal run` does that, and more.
    """
    click.echo(HOOK)


@click.command("wrangler", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@given_options
def wrangler_command(given: TargetOptions, arguments: Sequence[str]) -> None:
    """Run the project's wrangler with its bindings and commands on a Vicinal server.

    Give wrangler's own arguments after two dashes: vicinal wrangler -- dev

    The account is the one that wrangler uses: account_id of its configuration, if it has one.
    """
    command = parse(arguments)
    refusal = command.refusal()
    if refusal is not None:
        raise click.ClickException(refusal)
    program = find_wrangler(Path.cwd())
    named = None
    if not command.wants_help:
        named = named_account(command.selection(Path.cwd()), os.environ)
    if named is not None and given.account not in (None, named.account):
        raise click.ClickException(
            f"{named.file} names the account {named.account}, which wrangler uses whatever else "
            f"it is told, and --account or VICINAL_ACCOUNT names {given.account}; leave that out, "
            "or take account_id out of the file"
        )
    target = given.target(named)
    if command.needs_server:
        require_server(target)
    if command.words[:1] == ("whoami",):
        show.note(f"here wrangler works in the account {target.account} of {target.origin}")
    _become(program, [program, *arguments], target, given)


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@given_options
def run_command(given: TargetOptions, command: Sequence[str]) -> None:
    """Run COMMAND with the bindings of its Workers on a Vicinal server.

    For Vite, Vitest, SvelteKit, Astro, Nitro, getPlatformProxy and scripts, as they are:
    vicinal run -- npx vite
    """
    program = find_program(Path.cwd(), command[0])
    own = parse(wrangler_arguments(command))
    named = named_account(own.selection(Path.cwd()), os.environ)
    if named is not None and given.account not in (None, named.account):
        show.note(
            f"bindings use the account {given.account}; wrangler's own commands use "
            f"{named.account}, as {named.file} says"
        )
    target = given.target(named)
    require_server(target)
    _become(program, command, target, given)


def _become(program: str, words: Sequence[str], target: Target, given: TargetOptions) -> NoReturn:
    """Run a program in place of this one, with its bindings on the target."""
    is_given = given.account is not None
    try:
        os.execve(program, list(words), environment(target, os.environ, is_account_given=is_given))
    except OSError as error:
        raise click.ClickException(f"{program} cannot be run: {error.strerror}") from error
