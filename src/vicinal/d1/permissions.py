"""Permissions of SQL from the network: lists of allowed names; everything else is refused.

SQLite asks an *authorizer* about every table, function and pragma that a statement names,
while it compiles the statement. Statements that FTS5 itself makes pass there, too, and must
write tables (*shadow tables*) that others could only damage. FTS5 writes when a statement
runs, never when it is compiled. So a statement of a caller's is compiled once for its
permissions alone, where shadow tables cannot be written, and then once more to run.
"""

import re
import sqlite3
import sys
from dataclasses import dataclass, field

from vicinal.d1 import bounds

# https://sqlite.org/lang_corefunc.html, but for what loads code or tells of the build.
_CORE = """
    abs changes char coalesce concat concat_ws format glob hex if ifnull iif instr
    last_insert_rowid length like likelihood likely lower ltrim max min nullif octet_length
    printf quote random randomblob replace round rtrim sign soundex sqlite_version substr
    substring total_changes trim typeof unhex unicode unistr unistr_quote unlikely upper zeroblob
"""
_AGGREGATES_AND_WINDOWS = """
    avg count group_concat string_agg sum total median percentile percentile_cont percentile_disc
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank
    row_number
"""
_DATES = """
    current_date current_time current_timestamp date datetime julianday strftime time timediff
    unixepoch
"""
_MATHEMATICS = """
    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10
    log2 mod pi pow power radians sin sinh sqrt tan tanh trunc
"""
_JSON = """
    -> ->> json json_array json_array_insert json_array_length json_error_position json_extract
    json_group_array json_group_object json_insert json_object json_patch json_pretty json_quote
    json_remove json_replace json_set json_type json_valid jsonb jsonb_array jsonb_array_insert
    jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch
    jsonb_remove jsonb_replace jsonb_set
"""
_FTS5 = "match bm25 fts5_get_locale fts5_insttoken fts5_locale highlight snippet"

# ALTER TABLE makes statements with these; SQLite lets nobody else name them.
_OF_SQLITE = """
    sqlite_drop_column sqlite_fail sqlite_rename_column sqlite_rename_quotefix sqlite_rename_table
    sqlite_rename_test
"""

FUNCTIONS = frozenset(
    " ".join(
        (_CORE, _AGGREGATES_AND_WINDOWS, _DATES, _MATHEMATICS, _JSON, _FTS5, _OF_SQLITE)
    ).split()
)

MODULES = frozenset(("fts5", "fts5vocab"))
"""Virtual tables that can be made."""

TABLE_FUNCTIONS = frozenset(("json_each", "json_tree", "jsonb_each", "jsonb_tree"))
"""Virtual tables that need not be made, in addition to those of allowed pragmas."""

PRAGMAS = frozenset(
    (
        *("table_list", "table_info", "table_xinfo", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_list", "foreign_key_check", "defer_foreign_keys", "quick_check"),
        *("case_sensitive_like", "legacy_alter_table", "recursive_triggers", "optimize"),
        "data_version",  # FTS5 asks for it
    )
)
"""Pragmas that D1 allows, without those that last longer than a call."""

_WRITES = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))

_ALLOWED = frozenset(
    (
        *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_ANALYZE),
        *_WRITES,
        *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE),
        *(sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_DROP_TEMP_TABLE),
        *(sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_REINDEX),
        *(sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_DROP_TEMP_INDEX),
        *(sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW),
        *(sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_DROP_TEMP_VIEW),
        *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER),
        *(sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_DROP_TEMP_TRIGGER),
        sqlite3.SQLITE_DROP_VTABLE,
    )
)
"""Actions that are allowed on all tables but shadow tables."""

_NAMES_TABLE_FIRST = frozenset(
    (
        *_WRITES,
        *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE),
        *(sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_DROP_TEMP_TABLE),
        *(sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_TEMP_VIEW),
        sqlite3.SQLITE_CREATE_VTABLE,
    )
)
_NAMES_TABLE_SECOND = frozenset(
    (
        *(sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX),
        *(sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_DROP_TEMP_INDEX),
        *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER),
        sqlite3.SQLITE_ALTER_TABLE,
    )
)

_SHADOWS = frozenset(
    (
        *("data", "idx", "content", "docsize", "config"),  # FTS5
        *("segments", "segdir", "stat", "node", "parent", "rowid"),  # FTS3, R-tree: from elsewhere
    )
)

_SPACE = re.compile(r"(?:[ \t\n\r\f]+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)


def restrict(connection: sqlite3.Connection) -> None:
    """Set the limits and switches that SQLite itself has, on a new connection."""
    for limit, value in (
        (sqlite3.SQLITE_LIMIT_LENGTH, bounds.VALUE_BYTES_MAX),
        (sqlite3.SQLITE_LIMIT_COLUMN, bounds.COLUMNS_MAX),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, bounds.EXPRESSION_DEPTH_MAX),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, bounds.COMPOUND_MAX),
        (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, bounds.FUNCTION_ARGUMENTS_MAX),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, bounds.PATTERN_BYTES_MAX),
        (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, bounds.PARAMETERS_MAX),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, bounds.TRIGGER_DEPTH_MAX),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
    ):
        connection.setlimit(limit, value)
    connection.execute("PRAGMA cell_size_check=ON")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, False)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, False)


@dataclass(slots=True)
class Permissions:
    """The authorizer of one connection, and the names of its tables.

    Attributes:
        connection: The connection whose statements SQLite asks about.
        is_running: Whether the statement has been checked and runs now, so that FTS5 may write.
    """

    connection: sqlite3.Connection
    is_running: bool = False
    _known: set[str] = field(default_factory=set)
    _virtual: set[str] = field(default_factory=set)
    _closed: set[str] = field(default_factory=set)
    _is_stale: bool = True

    def check(self, sql: str, parameters: tuple[object, ...]) -> None:
        """Refuse a statement that may not run; nothing of it is executed.

        Raises:
            sqlite3.Error: as running it would.
        """
        if self._is_stale:
            self._learn()
        self.is_running = False
        self.connection.set_authorizer(self._decide)
        # A statement that begins with EXPLAIN runs nothing anyway.
        prefix = "" if is_explained(sql) else "EXPLAIN "
        self.connection.execute(prefix + sql, parameters).close()
        self.is_running = True

    def lift(self) -> None:
        """Allow everything, for statements of our own."""
        self.connection.set_authorizer(None)

    def _learn(self) -> None:
        self.lift()
        rows = self.connection.execute(
            "SELECT name, rootpage FROM main.sqlite_master WHERE type = 'table' UNION ALL "
            "SELECT name, rootpage FROM temp.sqlite_master WHERE type = 'table'"
        ).fetchall()
        modules = self.connection.execute("SELECT name FROM pragma_module_list")
        self._virtual = {name.lower() for name, page in rows if not page}
        self._known = {name.lower() for name, _ in rows}
        self._closed = {name.lower() for (name,) in modules} - self._known - TABLE_FUNCTIONS
        self._is_stale = False

    def _decide(
        self, action: int, first: str | None, second: str | None, _: str | None, within: str | None
    ) -> int:
        if not self._is_allowed(action, (first or "").lower(), (second or "").lower()):
            return sqlite3.SQLITE_DENY
        table = first if action in _NAMES_TABLE_FIRST else second
        if action in _NAMES_TABLE_FIRST or action in _NAMES_TABLE_SECOND:
            # A trigger of a caller's can be set off by what FTS5 does, too.
            if self._is_shadow(table or "") and (within is not None or not self.is_running):
                return sqlite3.SQLITE_DENY
            self._is_stale |= action not in _WRITES
        return sqlite3.SQLITE_OK

    def _is_allowed(self, action: int, first: str, second: str) -> bool:
        if action == sqlite3.SQLITE_FUNCTION:
            return second in FUNCTIONS
        if action == sqlite3.SQLITE_READ:
            if first.startswith("pragma_") and first not in self._known:
                return first.removeprefix("pragma_") in PRAGMAS
            return first not in self._closed
        if action == sqlite3.SQLITE_CREATE_VTABLE:
            return second in MODULES
        if action == sqlite3.SQLITE_PRAGMA:
            return first in PRAGMAS
        return action in _ALLOWED

    def _is_shadow(self, table: str) -> bool:
        owner, _, part = table.lower().rpartition("_")
        return part in _SHADOWS and owner in self._virtual


def is_explained(sql: str) -> bool:
    """Tell whether a statement only asks how another would run."""
    return bare(sql)[:7].upper() == "EXPLAIN"


def bare(sql: str) -> str:
    """Return a statement without the space and the comments before it."""
    start = _SPACE.match(sql)
    assert start is not None
    return sql[start.end() :]
