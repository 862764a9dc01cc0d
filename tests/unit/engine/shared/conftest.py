"""A database of its own schema for each test."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import fresh_schema, server
from vicinal.engine.shared import schema
from vicinal.engine.shared.database import PostgresDatabase


@pytest.fixture
def database() -> Iterator[PostgresDatabase]:
    database = PostgresDatabase(server().dsn, fresh_schema())
    schema.prepare(database)
    yield database
    database.close()
