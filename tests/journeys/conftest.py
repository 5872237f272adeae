from collections.abc import Iterator

import pytest
from kombu.exceptions import ChannelError

from annotation_site import celery_app
from tests.endpoints import Endpoint, offline_endpoint
from tests.journeys.stage import Worker

__all__ = ["offline_endpoint"]

QUEUES = ("interactive", "bulk", "maintenance")


@pytest.fixture
def worker(transactional_db, offline_endpoint: Endpoint) -> Iterator[Worker]:
    """A worker that runs, and has nothing left to do from earlier tests."""
    with celery_app.connection_for_write() as connection:
        for queue in QUEUES:
            try:
                connection.default_channel.queue_purge(queue)
            except ChannelError:  # Redis: nobody has used this queue yet
                continue
    started = Worker(offline_endpoint.url)
    started.start()
    yield started
    started.stop()
