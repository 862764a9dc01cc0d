"""SQL may do what D1 documents; all else that a build of SQLite happens to have is refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vicinal.d1 import Databases
from vicinal.d1.messages import Statement, StatementResult, Value
from vicinal.d1.permissions import FUNCTIONS, bare, is_explained, restrict
from vicinal.errors import BadStatement


def run(databases: Databases, sql: str, *parameters: Value) -> list[StatementResult]:
    return databases.execute("acme", "texts", [Statement(sql, parameters)])


def last(databases: Databases, sql: str) -> list[tuple[Value, ...]]:
    return [tuple(row) for row in run(databases, sql)[-1].rows]


@pytest.mark.parametrize(
    "sql",
    [
        (
            "select fts3_tokenizer('simple', x'4141414141414141'); "
            "create virtual table f3 using fts3(x, tokenize=simple)"
        ),
        "select fts3_tokenizer('simple')",
        "select FTS3_Tokenizer('simple')",
        "create view v as select fts3_tokenizer('simple') as a; select * from v",
        "create table t (a default (fts3_tokenizer('simple'))); insert into t default values",
        "create table t (a, b as (fts3_tokenizer('simple'))); insert into t(a) values (1)",
        (
            "create table t (a); create trigger r after insert on t begin "
            "select fts3_tokenizer('simple'); end; insert into t values (1)"
        ),
        "create table t (a, check (fts3_tokenizer(a) is null)); insert into t values ('simple')",
        "create table t (a); create index i on t (a) where fts3_tokenizer('simple') is not null",
        "select load_extension('x')",
        "select readfile('/etc/passwd')",
        "select writefile('/tmp/x', 'x')",
        "select edit('x')",
        "select sqlite_compileoption_get(1)",
        "select sqlite_log(1, 'x')",
        "select rtreecheck('t')",
        "select fts5(null)",
        "select sqlite_rename_table(1, 2, 3, 4, 5, 6, 7)",
    ],
)
def test_a_function_that_is_not_listed_is_refused(databases: Databases, sql: str) -> None:
    with pytest.raises(BadStatement, match=r"not authorized|no such function|unsafe use"):
        run(databases, sql)
    # Neither the process nor the database has suffered.
    assert last(databases, "select count(*) from sqlite_master") == [(0,)]


@pytest.mark.parametrize(
    "module",
    ["fts3(x)", "fts4(x)", "rtree(i, a, b)", "rtree_i32(i, a, b)", "fts3tokenize('simple')",
     "fts4aux(x)", "dbstat(main)", "sqlite_stmt", "json_each", "csv(filename='/etc/passwd')",
     "pragma_table_info", "geopoly(a)", "sqlite_dbpage"],
)  # fmt: skip
def test_a_virtual_table_other_than_of_full_text_search_is_refused(
    databases: Databases, module: str
) -> None:
    for temporary in ("", "temp."):
        with pytest.raises(BadStatement, match=r"not authorized|no such module|may not be"):
            run(databases, f"create virtual table {temporary}v using {module}")


@pytest.mark.parametrize(
    "sql",
    [
        "select * from dbstat",
        "select count(*) from dbstat",
        "select * from DBSTAT",
        "select * from sqlite_stmt",
        "select sql from sqlite_stmt",
        "select * from fts3tokenize",
        "select * from pragma_database_list",
        "select count(*) from pragma_database_list",
        "select * from pragma_function_list",
        "select * from pragma_module_list",
        "select * from pragma_compile_options",
        "select * from pragma_journal_mode",
        "with a as (select * from dbstat) select * from a",
        "create view v as select * from dbstat; select * from v",
        "select * from sqlite_dbpage",
    ],
)
def test_a_table_that_sqlite_makes_up_is_refused(databases: Databases, sql: str) -> None:
    with pytest.raises(BadStatement, match=r"not authorized|prohibited|no such table|unsafe"):
        run(databases, sql)


def test_a_table_of_the_callers_may_have_such_a_name(databases: Databases) -> None:
    run(databases, "create table dbstat (a); create table pragma_database_list (a)")
    run(databases, "insert into dbstat values (1)")

    assert last(databases, "select count(*), max(a) from dbstat") == [(1, 1)]
    assert last(databases, "select count(*) from pragma_database_list") == [(0,)]


@pytest.mark.parametrize(
    "sql",
    ["pragma hard_heap_limit = 0", "pragma soft_heap_limit = 1", "pragma writable_schema = on",
     "pragma mmap_size = 1000000000", "pragma temp_store_directory = '/'",
     "pragma user_version = 5",
     "pragma max_page_count = 1", "pragma trusted_schema = on", "pragma cell_size_check = off",
     "pragma main.locking_mode = exclusive", "pragma database_list", "pragma function_list",
     "pragma wal_checkpoint", "pragma page_size = 512", "pragma key = 'x'",
     "pragma busy_timeout = 9",
     "pragma foreign_keys = off", "pragma cache_size = 1000000", "pragma threads = 8",
     "pragma temp_store = file", "PRAGMA TEMP_STORE(1)", "vacuum into '/tmp/x'",
     "attach ':memory:' as x", "/* a */ begin", "-- a\ncommit", "explain attach 'x' as y",
     "release x", "savepoint x", "rollback to x"],
)  # fmt: skip
def test_a_pragma_that_is_not_listed_is_refused(databases: Databases, sql: str) -> None:
    with pytest.raises(BadStatement, match=r"not authorized|too many attached|VACUUM"):
        run(databases, sql)


def test_no_other_file_is_attached_even_where_nothing_else_forbids_it() -> None:
    connection = sqlite3.connect(":memory:")
    restrict(connection)

    with closing(connection), pytest.raises(sqlite3.OperationalError, match="too many attached"):
        connection.execute("attach ':memory:' as other")


def test_full_text_search_works(databases: Databases) -> None:
    run(databases, "create virtual table ff using fts5(x)")
    run(databases, "insert into ff values ('hello brave world'), ('goodbye')")

    found = last(
        databases,
        "select x, snippet(ff, 0, '[', ']', '.', 3), highlight(ff, 0, '<', '>'), "
        "bm25(ff) < 0, rank < 0 from ff where ff match 'brave' order by rank",
    )
    assert found == [
        ("hello brave world", "hello [brave] world", "hello <brave> world", 1, 1),
    ]
    run(databases, "update ff set x = 'changed' where rowid = 1; delete from ff where rowid = 2")
    run(databases, "insert into ff(ff) values ('optimize'), ('rebuild'), ('integrity-check')")
    run(databases, "insert into ff(ff, rank) values ('rank', 'bm25(10.0)')")
    run(databases, "create virtual table words using fts5vocab(ff, row)")
    assert last(databases, "select term, cnt from words") == [("changed", 1)]
    assert last(databases, "alter table ff rename to gg; select count(*) from gg('changed')") == [
        (1,)
    ]
    assert last(databases, "drop table words; drop table gg; select count(*) from sqlite_master") \
        == [(0,)]  # fmt: skip


def test_full_text_search_of_a_table_is_kept_by_triggers(databases: Databases) -> None:
    run(
        databases,
        """create table t (id integer primary key, text);
        create virtual table ff using fts5(text, content='t', content_rowid='id',
            tokenize='porter unicode61', prefix='2 3');
        create trigger t_i after insert on t begin
            insert into ff(rowid, text) values (new.id, new.text); end;
        create trigger t_d after delete on t begin
            insert into ff(ff, rowid, text) values ('delete', old.id, old.text); end;
        create trigger t_u after update on t begin
            insert into ff(ff, rowid, text) values ('delete', old.id, old.text);
            insert into ff(rowid, text) values (new.id, new.text); end;
        insert into t values (1, 'running'), (2, 'walks'), (3, 'stands');
        update t set text = 'sits' where id = 2; delete from t where id = 3""",
    )

    assert last(databases, "select rowid from ff where ff match 'run OR stand'") == [(1,)]
    assert last(databases, "select rowid from ff where ff match 'si*'") == [(2,)]
    run(databases, "insert into ff(ff, rank) values ('integrity-check', 1)")


def test_an_index_that_does_not_match_its_table_is_no_damage_of_the_file(
    databases: Databases,
) -> None:
    run(databases, "create table t (a); create virtual table ff using fts5(a, content='t')")
    run(databases, "insert into t values ('x')")

    with pytest.raises(BadStatement, match="does not match"):
        run(databases, "insert into ff(ff, rank) values ('integrity-check', 1)")


@pytest.mark.parametrize(
    "sql",
    [
        "insert into ff_data values (1, x'00')",
        "update ff_data set block = zeroblob(100)",
        "delete from ff_idx",
        "replace into main.FF_DATA values (10, x'ffffffffffff')",
        "with a(b, c) as (select 1, 2) insert into ff_data select * from a",
        "explain insert into ff_data values (1, 2)",
        "insert into ff_config values ('pgsz', 1)",
        "drop table ff_docsize",
        "alter table ff_content rename to other",
        "alter table ff_content add column z",
        "alter table ff_content rename column c0 to c9",
        "create index i on ff_content (c0)",
        "create trigger r after insert on ff_data begin select 1; end",
        "create temp trigger r after insert on ff_data begin select 1; end",
        (
            "create trigger r after insert on t begin delete from ff_data; end; "
            "insert into t values (1)"
        ),
        (
            "create view v as select 1 as a; create trigger r instead of insert on v begin "
            "update ff_data set block = x'00'; end; insert into v values (1)"
        ),
        # Written by what FTS5 does itself: a foreign key sets off a trigger while it runs.
        (
            "create table child (a references ff_data(id) on delete cascade, b); "
            "create trigger r after delete on child begin update ff_data set block = x'00'; end; "
            "insert into child values (10, 1); insert into ff(ff) values ('rebuild'); "
            "delete from ff; drop table ff"
        ),
        "create virtual table gg using fts5(y); insert into gg_data values (1, 2)",
        "alter table ff rename to hh; insert into hh_data values (1, 2)",
        "create virtual table temp.tt using fts5(y); insert into tt_data values (1, 2)",
        (
            "create table ff_other (a); create virtual table ff_x using fts5(a); "
            "insert into ff_x_data values (1, 2)"
        ),
    ],
)
def test_what_full_text_search_keeps_is_not_written_by_others(
    databases: Databases, sql: str
) -> None:
    run(databases, "create table t (a); create virtual table ff using fts5(x)")
    run(databases, "insert into ff values ('hello')")

    with pytest.raises(BadStatement, match=r"not authorized|authorization denied|may not be"):
        run(databases, sql)

    assert last(databases, "select rowid from ff where ff match 'hello'") == [(1,)]
    assert last(databases, "select id from ff_content") == [(1,)]  # reading is harmless


def test_ordinary_sql_is_not_in_the_way(databases: Databases) -> None:
    run(
        databases,
        """create table a_data (id integer primary key autoincrement, n real, j text) strict;
        create unique index u on a_data (n) where n > 0; create view v as select * from a_data;
        insert into a_data (n, j) values (1, '{"k": [1, 2]}'), (2, '[]') returning id;
        insert into a_data (n, j) values (1, '{}') on conflict do nothing;
        alter table a_data rename to b; alter table b add column c int default 7 not null;
        alter table b rename column c to d; alter table b drop column d;
        analyze; reindex; create temp table x as select * from b; pragma optimize;
        pragma quick_check;
        create table w (k primary key) without rowid; drop view v; drop index u""",
    )

    assert last(
        databases,
        "with recursive r(i) as (select 1 union all select i + 1 from r where i < 3) "
        "select i, sum(i) over (order by i), (select count(*) from b, json_each(j, '$.k')) from r",
    ) == [(1, 1, 2), (2, 3, 2), (3, 6, 2)]
    assert last(databases, "select name from pragma_table_info('b')") == [("id",), ("n",), ("j",)]
    assert last(databases, "explain query plan select * from b where id = 1") != []
    assert last(databases, "select j ->> '$.k[0]', 'a' like 'A', 'a' glob '[a-c]' from b") == [
        (1, 1, 1), (None, 1, 1),
    ]  # fmt: skip


def test_every_function_of_the_list_that_sqlite_has_is_one_that_it_documents() -> None:
    with sqlite3.connect(":memory:") as connection:
        built = {name for (name,) in connection.execute("select name from pragma_function_list")}
    connection.close()
    refused = built - FUNCTIONS

    assert {"load_extension", "fts3_tokenizer", "sqlite_log"} & built <= refused
    assert {"count", "json_extract", "strftime", "bm25", "sum", "like", "abs"} <= FUNCTIONS


@pytest.mark.parametrize(
    ("sql", "rest"),
    [
        ("select 1", "select 1"),
        (" \n-- a\n/* b */ /* ; */select 1", "select 1"),
        ("-- a", ""),
        ("/* a", ""),
        ("", ""),
        ("/* a */ /", "/"),
    ],
)
def test_space_and_comments_before_a_statement_are_seen(sql: str, rest: str) -> None:
    assert bare(sql) == rest


def test_a_statement_that_only_explains_is_told_apart() -> None:
    assert is_explained("-- a\n exPlain query plan select 1")
    assert not is_explained("select 'explain'")


def test_comments_alone_are_no_statement(databases: Databases, tmp_path: Path) -> None:
    assert len(run(databases, "select 1; -- the end")) == 1
    with pytest.raises(BadStatement, match="No SQL statements"):
        run(databases, "/* nothing */ ; -- at all")
