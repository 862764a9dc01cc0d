"""``vicinal copy``: indexes from one store to another, resumable.

How far a copy has come is in a journal below ``~/.local/state/vicinal/copies`` (or where
``XDG_STATE_HOME`` says), named by source and destination, until all of it is done.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from vicinal.cli import progress, show
from vicinal.cli.client import ANY_TOKEN
from vicinal.cli.shell_lines import DEFAULT_ACCOUNT
from vicinal.model import IndexAddress
from vicinal.moving.base import DestinationStore, SourceStore
from vicinal.moving.copying import Choice, Copy, CopyPlan, Failure, Intent, Outcome
from vicinal.moving.journal import Journal
from vicinal.moving.stores import StoreOptions, open_destination, open_source

_INTENTS = {
    Intent.NEW: "new",
    Intent.CONTINUED: "continued",
    Intent.INTO: "into the one there",
    Intent.DONE: "done before",
}


@dataclass(frozen=True, slots=True)
class NamedStores:
    """The two stores of a copy as they were named, and how they are reached."""

    source: str
    destination: str
    source_options: StoreOptions
    destination_options: StoreOptions


def _store_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how a store is reached, once for each of the two."""
    for end in ("destination", "source"):
        command = click.option(
            f"--{end}-token",
            envvar=[f"VICINAL_{end.upper()}_TOKEN", "VICINAL_TOKEN"],
            default=ANY_TOKEN,
            help=f"Bearer token, where the {end} is a server, or the key of a product.",
        )(command)
        command = click.option(
            f"--{end}-schema",
            default="vicinal",
            show_default=True,
            help=f"Schema of the tables, where the {end} is a database.",
        )(command)
        command = click.option(
            f"--{end}-cacert",
            type=click.Path(path_type=Path),
            help=f"Certificates that the {end} is believed by, where it is an https:// server.",
        )(command)
    return command


@click.command("copy")
@click.argument("source")
@click.argument("destination")
@click.option("--index", "names", multiple=True, help="Only this index; may be repeated.")
@click.option("--account", "accounts", multiple=True, help="Only this account; may be repeated.")
@click.option("--to-account", help="Account of the copies; that of each index if not given.")
@click.option("--into", is_flag=True, help="Write to indexes that hold vectors already, too.")
@click.option("--leave-out", is_flag=True, help="Leave out what has no home in DESTINATION.")
@click.option("--without-tokens", is_flag=True, help="Copy no tokens.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied.")
@click.option("--restart", is_flag=True, help="Take nothing for begun by an earlier run.")
@click.option("--journal", type=click.Path(path_type=Path, dir_okay=False), help="Its file.")
@show.json_option
@_store_options
def command(
    source: str,
    destination: str,
    names: tuple[str, ...],
    accounts: tuple[str, ...],
    to_account: str | None,
    into: bool,
    leave_out: bool,
    without_tokens: bool,
    dry_run: bool,
    restart: bool,
    journal: Path | None,
    as_json: bool,
    source_schema: str,
    destination_schema: str,
    source_token: str,
    destination_token: str,
    source_cacert: Path | None,
    destination_cacert: Path | None,
) -> None:
    """Copy indexes from SOURCE to DESTINATION.

    A store is a data folder that no server has open, a postgresql:// database that servers
    share, or the http(s):// URL of a server; or of another product: qdrant:, chroma: or lancedb:
    with a URL or a folder, pgvector: with a DSN, or pinecone: alone, which is only read. Run the
    same command again after an interruption and it continues where it was.
    """
    choice = Choice(
        accounts=accounts,
        names=names,
        account=to_account,
        into=into,
        leaves_out=leave_out,
        with_tokens=not without_tokens,
    )
    account = accounts[0] if accounts else DEFAULT_ACCOUNT
    named = NamedStores(
        source,
        destination,
        StoreOptions(source_schema, source_token, account, source_cacert),
        StoreOptions(destination_schema, destination_token, account, destination_cacert),
    )
    with _opened(named, is_dry=dry_run) as (read, written):
        path = journal or _journal_path(read, written)
        with _journal(path, is_dry=dry_run, restarts=restart) as kept:
            copy = Copy(read, written, kept, choice, warn=show.note)
            plan = copy.plan()
            if dry_run:
                if as_json:
                    show.json_of(_planned(plan))
                else:
                    _show_plan(plan, read, written)
                return
            outcome = _copy(copy, plan)
            kept.close(is_done=not outcome.failures)
        _show_outcome(outcome, plan, written, as_json=as_json)


@contextmanager
def _opened(named: NamedStores, *, is_dry: bool) -> Iterator[tuple[SourceStore, DestinationStore]]:
    if named.source == named.destination and "://" not in named.source:
        raise click.UsageError("source and destination are the same folder")
    with (
        closing(open_source(named.source, named.source_options)) as source,
        closing(
            open_destination(named.destination, named.destination_options, creates=not is_dry)
        ) as destination,
    ):
        yield source, destination


@contextmanager
def _journal(path: Path, *, is_dry: bool, restarts: bool) -> Iterator[Journal]:
    """Open the journal; a dry run leaves none behind."""
    if restarts and not is_dry:
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as other:
        if is_dry and not path.exists():
            path = Path(other) / path.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal = Journal(path)
        try:
            yield journal
        finally:
            journal.close(is_done=False)


def _journal_path(source: SourceStore, destination: DestinationStore) -> Path:
    text = f"{source.identity} to {destination.identity}"
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise click.ClickException(
            "this user has no home folder to keep a journal in: set XDG_STATE_HOME"
        ) from error
    return Path(state) / "vicinal" / "copies" / f"{name}.db"


def _copy(copy: Copy, plan: CopyPlan) -> Outcome:
    began_s, first = time.monotonic(), sum(planned.copied_count for planned in plan.indexes)
    for text in plan.left_out:
        show.note(f"left out: {text}")
    with progress.bar("copying", plan.vector_count, done=first) as report:

        def tell(address: IndexAddress, done: int) -> None:
            rate = max(done - first, 0) / max(time.monotonic() - began_s, 1e-3)
            text = f"{address.name}: {done:,} of {plan.vector_count:,} vectors ({rate:,.0f}/s)"
            report(done, text)

        copy.report = tell
        try:
            return copy.execute(plan)
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; the same command goes on from there") from None


def _planned(plan: CopyPlan) -> dict[str, object]:
    """Return a plan as a document."""
    return {
        "indexes": [
            {
                "account": planned.index.address.account,
                "index": planned.index.address.name,
                "vectors": planned.index.vector_count,
                "dimensions": planned.index.config.dimensions,
                "metric": planned.index.config.metric,
                "copy": _INTENTS[planned.intent],
                "copied_before": planned.copied_count,
            }
            for planned in plan.indexes
        ],
        "tokens": plan.token_count,
        "left_out": plan.left_out,
        "failures": _failures(plan.failures),
    }


def _failures(failures: Sequence[Failure]) -> list[dict[str, str]]:
    return [
        {
            "account": failure.address.account,
            "index": failure.address.name,
            "reason": str(failure.reason),
        }
        for failure in failures
    ]


def _show_plan(plan: CopyPlan, source: SourceStore, destination: DestinationStore) -> None:
    show.table(
        ("account", "index", "vectors", "dimensions", "metric", "copy"),
        [
            (
                planned.index.address.account,
                planned.index.address.name,
                f"{planned.index.vector_count:,}",
                str(planned.index.config.dimensions),
                planned.index.config.metric.value,
                _INTENTS[planned.intent]
                + (
                    f" after {planned.copied_count:,}" if planned.intent is Intent.CONTINUED else ""
                ),
            )
            for planned in plan.indexes
        ],
        right=("vectors", "dimensions"),
    )
    for text in plan.left_out:
        show.note(f"left out: {text}")
    for failure in plan.failures:
        show.note(
            f"cannot be read: {failure.address.account}/{failure.address.name}: {failure.reason}"
        )
    click.echo(
        f"would copy {len(plan.indexes):,} indexes with {plan.vector_count:,} vectors and "
        f"{plan.token_count:,} tokens from {source.label} to {destination.label}, each "
        f"{source.promise}"
    )


def _show_outcome(
    outcome: Outcome, plan: CopyPlan, destination: DestinationStore, *, as_json: bool
) -> None:
    for failure in outcome.failures:
        address = failure.address
        show.note(f"not copied: index {address.account}/{address.name}: {failure.reason}")
    before = plan.vector_count - outcome.vector_count
    earlier = f" ({outcome.vector_count:,} of them now)" if before > 0 else ""
    done = set(outcome.finished)
    count = sum(
        planned.index.vector_count for planned in plan.indexes if planned.index.address in done
    )
    if as_json:
        document = {
            "indexes": len(done),
            "vectors": count,
            "vectors_of_this_run": outcome.vector_count,
            "tokens": outcome.token_count,
            "failures": _failures(outcome.failures),
        }
        show.json_of(document)
    else:
        click.echo(
            f"{len(done):,} indexes with {count:,} vectors{earlier} and "
            f"{outcome.token_count:,} tokens are in {destination.label}; the counts of all of them "
            "agree"
        )
    if outcome.failures:
        total = len(outcome.failures) + len(done)
        raise click.ClickException(
            f"{len(outcome.failures)} of {total} indexes were not copied; run the command again "
            "for these"
        )
