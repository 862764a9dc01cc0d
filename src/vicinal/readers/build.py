"""Choose the reader of a file, by its form."""

from vicinal.errors import BadFile
from vicinal.readers import delimited
from vicinal.readers.arrays import NpyReader, NpzReader
from vicinal.readers.base import ColumnNames, FileReader
from vicinal.readers.delimited import CsvReader
from vicinal.readers.json_documents import JsonReader
from vicinal.readers.ndjson import NdjsonReader
from vicinal.readers.opening import FileForm, FileSource, form_of
from vicinal.readers.tables import ArrowReader


def recognised(source: FileSource, names: ColumnNames) -> FileForm:
    """Return the form of a file.

    Raises:
        BadFile: it is in no form that is read.
    """
    form = form_of(source)
    if form is FileForm.TEXT and delimited.is_table(source.start, names):
        return FileForm.CSV
    return form


def reader_of(
    source: FileSource, form: FileForm, names: ColumnNames, dimensions: int, *, bytes_max: int
) -> FileReader:
    """Return the reader of a file of records or a table.

    Args:
        source: The file.
        form: Its form, which is not TEXT.
        names: The meaning of columns.
        dimensions: The length of every vector; 0 for texts.
        bytes_max: Bound on the text of a batch.

    Raises:
        BadFile: the form is TEXT, or needs a package that is missing.
    """
    match form:
        case FileForm.NDJSON:
            return NdjsonReader(source, names, dimensions, bytes_max)
        case FileForm.JSON:
            return JsonReader(source, names, dimensions, bytes_max)
        case FileForm.CSV:
            return CsvReader(source, names, dimensions)
        case FileForm.NPY:
            return NpyReader(source, names, dimensions)
        case FileForm.NPZ:
            return NpzReader(source, names, dimensions)
        case FileForm.PARQUET | FileForm.ARROW | FileForm.ARROW_STREAM:
            return ArrowReader(source, form, names, dimensions)
    if source.start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        raise BadFile(
            "this is no table and has no records: an array of JSON has objects with id and values "
            "in it, and `--text` embeds text"
        )
    raise BadFile(
        "this is text, and has no vectors: `--text` embeds it. A table has a head with the names "
        "of columns, like id and values; --id and --vector name others"
    )
