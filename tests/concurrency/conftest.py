"""Real threads, each with its own PostgreSQL connection."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection


@pytest.fixture
def at_once() -> Callable[..., list]:
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
