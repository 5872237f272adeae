"""A real model endpoint for tests: the offline endpoint on a free port, with a handle on its switches."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from apps.generation import client
from apps.generation.offline_endpoint.banks import BANKS_DIR, Banks, load_banks
from apps.generation.offline_endpoint.server import OfflineServer, Switches


@dataclass(frozen=True)
class Endpoint:
    """`url` for a model spec, `set(mode="truncated", times=1)` to misbehave, `calls` counted so far."""

    server: OfflineServer

    @property
    def url(self) -> str:
        return self.server.base_url

    @property
    def calls(self) -> int:
        return self.server.calls

    @property
    def in_flight(self) -> int:
        return self.server.in_flight

    def set(self, **switches) -> None:
        self.server.set_switches(Switches(**switches))


@cache
def banks() -> Banks:
    return load_banks(BANKS_DIR)


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll until `condition()` is true; fail after `seconds`."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def offline_endpoint(settings) -> Iterator[Endpoint]:
    """The endpoint that a ModelSpec without base_url calls, for this test alone."""
    server = OfflineServer(("127.0.0.1", 0), banks())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    settings.OFFLINE_ENDPOINT_URL = server.base_url
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    yield Endpoint(server)
    client.close_clients()
    server.shutdown()
    server.server_close()
    thread.join(5)
