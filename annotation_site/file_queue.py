"""Celery's file-based broker for one machine, with messages that appear whole.

Kombu's own writer opens a message file under its final name and then fills it; a worker that looks in between takes an
empty message and dies of it. Here a message is written beside the queue and renamed into it.
"""

import os
import uuid
from time import monotonic_ns
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def _put(self, queue: Any, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]  # kombu names it in two ways
        name = f"{monotonic_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        final = os.path.join(self.data_folder_out, name)
        partial = f"{final}.partial"  # no worker reads this ending
        try:
            with open(partial, "w", encoding="utf-8") as file:
                file.write(dumps(payload))
            os.replace(partial, final)
        except OSError as error:
            raise ChannelError(f"Cannot add {final!r} to the queue") from error


class Transport(filesystem.Transport):
    Channel = Channel


def install() -> None:
    """Make `filesystem://` mean this transport, for whoever sends and whoever works."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
