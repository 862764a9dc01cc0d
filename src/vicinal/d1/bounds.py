"""Bounds of a call of an SQL database: one table, read by both sides of the pipe.

This module imports nothing of the package, as the worker does not load the engine.
"""

from dataclasses import dataclass

MIB = 1024 * 1024

STATEMENT_BYTES_MAX = 100_000  # of all statements of a call; D1's own, of one
PARAMETERS_MAX = 100  # of one statement; D1's own
VALUE_BYTES_MAX = 2_000_000  # of one text, blob or stored row; D1's own
COLUMNS_MAX = 100  # of a table or result; D1's own
PATTERN_BYTES_MAX = 50  # of LIKE and GLOB; D1's own
EXPRESSION_DEPTH_MAX = 100  # D1's runtime has it
TRIGGER_DEPTH_MAX = 10  # D1's runtime has it
FUNCTION_ARGUMENTS_MAX = 100  # ours; D1's page says 32, its runtime takes more
COMPOUND_MAX = 500  # ours, and SQLite's; D1 refuses more than five SELECTs in one
FILE_BYTES_MAX = 10 * 1024 * MIB  # of one database; D1's own

STATEMENTS_MAX = 1_000  # ours
ROWS_MAX = 100_000  # ours: of a statement's result
RESULT_BYTES_MAX = 32 * MIB  # ours: of all results of a call, about
CALL_BYTES_MAX = 32 * MIB  # ours: statements with their parameters
LOCK_TIMEOUT_S = 5.0  # ours: for another program that has the file open
HEAP_BYTES_MAX = 128 * MIB  # ours, for SQLite; D1 has 128 MB for all of a Worker
ADDRESS_BYTES_MAX = 384 * MIB  # ours: SQLite, one row, a call and its results; beside the code
RESIDENT_BYTES_MAX = 64 * MIB  # ours: a process that keeps more after a call is not used again

GRACE_S = 1.0  # ours: past its own bound, until a process is killed
COMMIT_S_MAX = 30.0  # ours: until a commit, which only waits for the disk, is given up


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds that the owner of the databases chooses.

    Attributes:
        seconds_max: Seconds that the statements of a call may take; D1 has 30.
        processes_max: Number of processes, and so of calls that run at once.
        idle_max: Number of processes that are kept for the next call.
        databases_max: Number of databases of an account; D1 has 50,000.
    """

    seconds_max: float = 10.0
    processes_max: int = 8
    idle_max: int = 2
    databases_max: int = 10_000
