"""Real threads, each with its own PostgreSQL connection, and a journal that the database itself keeps."""

import fcntl
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from django.db import connection


@pytest.fixture
def alone() -> Iterator[None]:
    """One crowd at a time on this machine: two of fifty people would take all the connections of a default PostgreSQL."""
    with (Path(tempfile.gettempdir()) / "polyphony-crowd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def at_once(alone) -> Callable[..., list]:
    """`at_once(functions)`: start them together; each result is what it returned or the exception it raised."""

    def run(functions: list[Callable]) -> list:
        barrier = Barrier(len(functions))

        def call(function: Callable):
            try:
                barrier.wait(timeout=30)
                return function()
            except Exception as error:  # the test looks at it
                return error
            finally:
                connection.close()

        with ThreadPoolExecutor(len(functions)) as pool:
            return list(pool.map(call, functions))

    return run


class Journal:
    """Every place taken or given back and every new target, in the order in which the cell's lock let them through."""

    SETUP = """
        CREATE TABLE crowd_journal (id bigserial PRIMARY KEY, cell bigint, change int, target int);
        CREATE FUNCTION crowd_note_place() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
          before int := 0;
          after int := (NEW.state <> 'RELEASED' AND NOT NEW.is_over)::int;
        BEGIN
          IF TG_OP = 'UPDATE' THEN before := (OLD.state <> 'RELEASED' AND NOT OLD.is_over)::int; END IF;
          IF after <> before THEN INSERT INTO crowd_journal (cell, change) VALUES (NEW.cell_id, after - before); END IF;
          RETURN NEW;
        END $$;
        CREATE FUNCTION crowd_note_target() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          INSERT INTO crowd_journal (cell, target) VALUES (NEW.id, NEW.target);
          RETURN NEW;
        END $$;
        CREATE TRIGGER crowd_place AFTER INSERT OR UPDATE ON quotas_placement FOR EACH ROW EXECUTE FUNCTION crowd_note_place();
        CREATE TRIGGER crowd_target AFTER INSERT OR UPDATE ON quotas_quotacell FOR EACH ROW EXECUTE FUNCTION crowd_note_target();
    """
    CLEANUP = """
        DROP TRIGGER crowd_place ON quotas_placement;
        DROP TRIGGER crowd_target ON quotas_quotacell;
        DROP FUNCTION crowd_note_place();
        DROP FUNCTION crowd_note_target();
        DROP TABLE crowd_journal;
    """

    def taken_above(self) -> list[tuple[int, int, int]]:
        """Cell, people and target wherever a place was taken at or above the target then in force."""
        found, people, targets = [], {}, {}
        for cell, change, target in run_sql("SELECT cell, change, target FROM crowd_journal WHERE cell IS NOT NULL ORDER BY id"):
            if target is not None:
                targets[cell] = target
                continue
            people[cell] = people.get(cell, 0) + change
            if change > 0 and people[cell] > targets[cell]:
                found.append((cell, people[cell], targets[cell]))
        return found


def run_sql(statements: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statements)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def journal(transactional_db) -> Iterator[Journal]:
    run_sql(Journal.SETUP)
    yield Journal()
    run_sql(Journal.CLEANUP)
