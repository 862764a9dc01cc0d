"""``vicinal import``: files to an index, in batches, resumable.

This module has the options and puts the job together (`import_job`); `vicinal.readers` read the
files, `import_sending` sends vectors.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from vicinal.cli import import_texts, index_definition, progress, show
from vicinal.cli.client import IndexResponse, Target, target_options
from vicinal.cli.completion import files_and_index_names
from vicinal.cli.import_job import (
    ImportedFile,
    ImportJob,
    RejectedRows,
    identity,
    job_text,
)
from vicinal.cli.import_sending import VectorSender
from vicinal.errors import BadFile
from vicinal.readers import build
from vicinal.readers.base import ColumnNames, FileReader
from vicinal.readers.opening import FileForm, FileSource, is_plain
from vicinal.readers.texts import TextsReader, text_files, text_of

BATCH_BYTES_MAX = 32 * 1024 * 1024
BATCH_ROWS = 5_000
"""Vectors in a request unless the person says otherwise: as many as every profile allows."""
PATIENCE_S = 120.0

_STDIN = "-"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The options of the command but those that say where the server is.

    Attributes:
        form: None to recognise it.
        bytes_max: Bound on the text of a batch.
        model: The model for texts; None for the index's.
        operation: ``insert`` or ``upsert``.
        rows_max: Rows of a batch.
        waits: Whether to wait until queries see every vector.
        keeps_stale: Whether chunks beyond the end of a text that has become shorter stay.
    """

    names: ColumnNames
    form: FileForm | None
    bytes_max: int
    model: str | None
    operation: str
    rows_max: int
    waits: bool
    keeps_stale: bool


def _comma_list(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else tuple(part.strip() for part in value.split(","))


@click.command("import")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    shell_complete=files_and_index_names,
)
@click.argument("index")
@click.option("--id", "id_column", metavar="COLUMN", help="Ids; `@row` numbers the rows from 0.")
@click.option(
    "--vector", metavar="COLUMN", help="Values; `e*` takes many columns of one number each."
)
@click.option("--namespace", metavar="COLUMN", help="Namespaces.")
@click.option(
    "--metadata",
    metavar="A,B",
    callback=_comma_list,
    help="Columns that become metadata, `*` for all others: a table's default.",
)
@click.option("--ignore", metavar="A,B", callback=_comma_list, help="Columns to leave out.")
@click.option(
    "--text",
    is_flag=False,
    flag_value="text",
    metavar="[COLUMN]",
    help="Embed the texts of COLUMN (`text`), or chunks of text and Markdown files and folders.",
)
@click.option("--model", help="Embeds --text; the index's model, or all-minilm-l6-v2.")
@click.option("--keep-text", is_flag=True, help="Store the texts as metadata, too.")
@click.option(
    "--keep-stale", is_flag=True, help="Keep chunks beyond the end of a text that is shorter now."
)
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in FileForm if form is not FileForm.TEXT]),
    help="The form of the files, which else is recognised.",
)
@click.option("--insert", is_flag=True, help="Keep vectors that are there instead of replacing.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 100_000),
    help=f"Vectors in a request: {BATCH_ROWS:,}, of texts {import_texts.BATCH_TEXTS}.",
)
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out, naming them, and end with 1.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rows that --skip-bad leaves out to this file (NDJSON).",
)
@click.option("--allow-rejects", is_flag=True, help="End with 0 though rows were left out.")
@click.option("--wait", is_flag=True, help="Return when queries see every vector.")
@click.option("--restart", is_flag=True, help="Begin at the first row whatever was done before.")
@show.json_option
@target_options
def command(
    target: Target,
    files: tuple[Path, ...],
    index: str,
    id_column: str | None,
    vector: str | None,
    namespace: str | None,
    metadata: tuple[str, ...] | None,
    ignore: tuple[str, ...] | None,
    text: str | None,
    model: str | None,
    keep_text: bool,
    keep_stale: bool,
    form: str | None,
    insert: bool,
    batch_size: int | None,
    skip_bad: bool,
    rejects: Path | None,
    allow_rejects: bool,
    wait: bool,
    restart: bool,
    as_json: bool,
) -> None:
    """Upsert the vectors of every FILE into INDEX; - is standard input.

    \b
    vicinal import vectors.ndjson docs             {"id": "a", "values": [...], "metadata": {...}}
    vicinal import vectors.npy docs                a matrix; ids are the numbers of its rows
    vicinal import book.parquet docs --id isbn --vector embedding --metadata title,year
    vicinal import manual/ *.md notes --keep-text --text     chunks, embedded; makes the index

    Reads NDJSON, JSON (an array, or {"vectors": [...]}), CSV, .npy, .npz, and with
    `pip install 'vicinal[files]'` parquet, Arrow and Feather; each also compressed by gzip or zstd.
    The form is recognised by the content, not by the name.

    Columns named id, values (or vector, embedding), namespace and metadata are found by
    themselves. In a table all others become metadata; in JSON they are refused unless named.

    Texts are cut at headings and paragraphs to the length that the model reads, and have path,
    heading and position as metadata; `vicinal query INDEX --text "..."` then finds them. Importing
    a text again replaces its chunks, and deletes those beyond its end if it has become shorter.

    Run the same command again after an interruption and it continues where it was.
    """
    names = ColumnNames(
        id_column, vector, namespace, metadata, ignore or (), text, keeps_text=keep_text
    )
    if text is None and (model is not None or keep_text or keep_stale):
        raise click.UsageError("--model, --keep-text and --keep-stale belong to --text")
    options = ImportOptions(
        names=names,
        form=FileForm(form) if form else None,
        bytes_max=BATCH_BYTES_MAX,
        model=model,
        operation="insert" if insert else "upsert",
        rows_max=batch_size or (BATCH_ROWS if text is None else import_texts.BATCH_TEXTS),
        waits=wait,
        keeps_stale=keep_stale or insert,
    )
    _check_index(index)
    if rejects is not None:
        _check_own_file(rejects, files)
    rejected = RejectedRows(rejects, skip_bad)
    _import(target, files, index, options, rejected, restart=restart, as_json=as_json)
    if rejected.count and not allow_rejects:
        click.get_current_context().exit(1)


def _check_index(index: str) -> None:
    """Refuse the path of a file or folder that is there in place of an index's name."""
    # A name has neither "." nor "/"; one without them may be that of a file, too.
    # Not `Path.exists`, which raises OSError for a name that is too long for a file.
    if ("." in index or "/" in index) and os.path.exists(index):  # noqa: PTH110
        raise click.UsageError(
            f"{index} is a file or folder, not an index: every FILE comes before INDEX"
        )


def _check_own_file(rejects: Path, files: tuple[Path, ...]) -> None:
    """Refuse to write rejected rows over what is imported."""
    if rejects.exists() and any(file.exists() and file.samefile(rejects) for file in files):
        raise click.UsageError(f"--rejects {rejects}: that file is imported; name another")


def _import(
    target: Target,
    files: tuple[Path, ...],
    index: str,
    options: ImportOptions,
    rejected: RejectedRows,
    *,
    restart: bool,
    as_json: bool,
) -> None:
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(target.connect(patience_s=PATIENCE_S))
        stale = None
        if options.names.text is None:
            embedder = None
            description = index_definition.get_or_create(client, index, files)
            imported = _imported_files(files, options, description.config.dimensions)
        else:
            description, chosen = import_texts.index_for_texts(client, index, options.model)
            embedder = import_texts.TextEmbedder(client, chosen)
            imported = _files_with_texts(files, options, embedder.model)
            if not options.keeps_stale:
                stale = import_texts.StaleChunks(client, index)
        sizes = [file.size for file in imported if file.size is not None]
        total = sum(sizes) if len(sizes) == len(imported) else None
        job = ImportJob(
            client=client,
            files=imported,
            job=_job_text(target, description, imported, options),
            resume_path=_resume_path(files, index),
            sender=VectorSender(client, description, options.operation, skips_bad=rejected.skips),
            embed=None if embedder is None else embedder.with_vectors,
            rejected=rejected,
            rows_max=options.rows_max,
            waits=options.waits,
            report=stack.enter_context(progress.bar(f"into {index}", total)),
            finished=None if stale is None else stale.delete,
        )
        count = job.import_all(restart=restart)
    _summarise(job, index, count, time.monotonic() - began_s, as_json=as_json)


def _summarise(job: ImportJob, index: str, count: int, seconds: float, *, as_json: bool) -> None:
    if as_json:
        document = {
            "index": index,
            "vectors": job.point.vectors,
            "vectors_of_this_run": count,
            "rejected": job.rejected.count,
            "repeated_ids": job.ids.repeated_count,
            "seconds": round(seconds, 3),
        }
        show.json_of(document)
        return
    rate = count / max(seconds, 1e-3)
    text = f"{job.point.vectors:,} vectors into {index} in {seconds:.1f} s ({rate:,.0f}/s)"
    if job.rejected.count:
        text += f"; {job.rejected.count:,} rows left out"
    if job.ids.repeated_count:
        text += f"; {job.ids.repeated_count:,} of the ids had come before"
    click.echo(text)


def _imported_files(
    paths: tuple[Path, ...], options: ImportOptions, dimensions: int
) -> list[ImportedFile]:
    if sum(str(path) == _STDIN for path in paths) > 1:
        raise click.UsageError("- stands for standard input, which can be read once")
    return [_imported_file(path, partial(_opened, options, dimensions)) for path in paths]


def _imported_file(
    path: Path, opened: Callable[[Callable[[], FileSource]], tuple[FileSource, FileReader]]
) -> ImportedFile:
    if str(path) == _STDIN:
        return ImportedFile(
            "stdin", None, "", lambda: opened(partial(FileSource, None, sys.stdin.buffer))
        )
    opener = partial(FileSource.open, path)
    if not _is_plain(path):
        return ImportedFile(str(path), None, "", lambda: opened(opener))
    return ImportedFile(
        str(path), path.stat().st_size, identity(path), lambda: opened(opener), path
    )


def _files_with_texts(
    paths: tuple[Path, ...], options: ImportOptions, model: str
) -> list[ImportedFile]:
    """Return records and tables with a column of texts, and then plain text and Markdown as one.

    A pipe, which is read once, is recognised when it is opened.
    """
    others: list[Path] = []
    texts: list[Path] = []
    for path in paths:
        if str(path) == _STDIN or options.form is not None or _is_pipe(path):
            others.append(path)
        elif path.is_dir():
            inside, other_count = text_files(path)
            if other_count:
                show.note(f"left out: {other_count:,} files in {path} that are no text")
            texts += inside
        else:
            (texts if _is_text(path, options) else others).append(path)
    imported = _imported_files(tuple(others), replace(options, model=model), 0)
    if not others and not texts:
        raise click.ClickException(f"{paths[0]} has no text in it")
    if texts:
        count, tokens_max = import_texts.chunk_bounds(model)
        reader = TextsReader(texts, count, tokens_max, keeps_text=options.names.keeps_text)
        known = " ".join(f"{path} {identity(path)}" for path in texts)
        label = str(texts[0]) if len(texts) == 1 else f"{len(texts):,} files of text"
        size = sum(path.stat().st_size for path in texts)
        imported.append(ImportedFile(label, size, known, lambda: (None, reader)))
    return imported


def _is_text(path: Path, options: ImportOptions) -> bool:
    source = FileSource.open(path)
    try:
        # A text that has become empty has chunks to lose; of records an empty file has none.
        return build.recognised(source, options.names) is FileForm.TEXT or not source.start.strip()
    finally:
        source.close()


def _opened(
    options: ImportOptions, dimensions: int, opener: Callable[[], FileSource]
) -> tuple[FileSource, FileReader]:
    source = opener()
    try:
        form = options.form or build.recognised(source, options.names)
        if form is FileForm.TEXT and options.model is not None:
            return source, _piped_text(source, options, options.model)
        reader = build.reader_of(
            source, form, options.names, dimensions, bytes_max=options.bytes_max
        )
    except BadFile:
        source.close()
        raise
    return source, reader


def _piped_text(source: FileSource, options: ImportOptions, model: str) -> FileReader:
    """Return the reader of a text that comes by a pipe, whose path is the pipe's name."""
    count, tokens_max = import_texts.chunk_bounds(model)
    show.note(
        f"the chunks of {source.label} have it as their path, "
        "so another text by that name replaces them"
    )
    return TextsReader(
        [Path(source.label)], count, tokens_max, keeps_text=options.names.keeps_text,
        read=lambda _: text_of(source),
    )  # fmt: skip


def _is_plain(path: Path) -> bool:
    """Tell whether a file can be read again; refuse a folder, and what is not there."""
    try:
        if path.is_dir():
            raise click.ClickException(f"{path} is a folder")
        return is_plain(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error


def _is_pipe(path: Path) -> bool:
    return not path.is_dir() and not _is_plain(path)


def _job_text(
    target: Target,
    index: IndexResponse,
    files: list[ImportedFile],
    options: ImportOptions,
) -> str:
    return job_text(
        files,
        options.operation,
        f"into {index.name} of {index.created_on} at {target.url} {target.account}",
        f"as {options.names} {options.form}",
    )


def _resume_path(paths: tuple[Path, ...], index: str) -> Path | None:
    """Return the file for resume points, beside the first file; None with a pipe among them."""
    if any(str(path) == _STDIN or _is_pipe(path) for path in paths):
        return None
    first = paths[0].resolve()
    return first.with_name(f".{first.name}.{index}.import")
