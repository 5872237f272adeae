"""The file-based broker: a reader that never stops looking finds whole messages only."""

import json
import threading
import time
import uuid
from pathlib import Path

import pytest
from kombu import Connection
from kombu.transport import filesystem

from annotation_site.celery import app
from annotation_site.file_queue import Channel

MESSAGES = 300


def connect(folder: Path) -> Connection:
    for name in ("messages", "control"):
        (folder / name).mkdir(exist_ok=True)
    messages = str(folder / "messages")
    options = {"data_folder_in": messages, "data_folder_out": messages, "control_folder": str(folder / "control")}
    return Connection("filesystem://", transport_options=options)


def broken_messages(folder: Path) -> list[str]:
    """Names of messages that were visible to a reader while they were not yet whole."""
    broken: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for file in list((folder / "messages").glob("*.msg")):
                try:
                    json.loads(file.read_text())
                except ValueError:
                    broken.append(file.name)

    reader = threading.Thread(target=look)
    with connect(folder) as connection:
        reader.start()
        queue = connection.SimpleQueue(f"queue-{uuid.uuid4()}")  # kombu remembers bindings for the whole process
        for number in range(MESSAGES):
            queue.put({"number": number, "text": "x" * 2000})
        done.set()
        reader.join()
        received = [queue.get(timeout=5).payload["number"] for _ in range(MESSAGES)]
        queue.close()
    assert sorted(received) == list(range(MESSAGES))
    return broken


def test_the_application_uses_the_whole_message_transport():
    with app.connection_for_write() as connection:
        if connection.transport.driver_type == "filesystem":
            assert connection.transport.Channel is Channel


def test_a_reader_sees_whole_messages_only(tmp_path):
    assert broken_messages(tmp_path) == []


def test_sabotage_with_the_writer_of_the_library_a_reader_sees_broken_messages(tmp_path, monkeypatch):
    """The control: kombu's own writer, slowed between opening and filling the file, shows empty messages."""
    fill = filesystem.dumps

    def slowly(payload):
        time.sleep(0.001)
        return fill(payload)

    monkeypatch.setattr(filesystem, "dumps", slowly)
    monkeypatch.setattr(Channel, "_put", filesystem.Channel._put)
    assert broken_messages(tmp_path) != []


@pytest.mark.parametrize("payload", [{"text": "नमस्ते"}, {"text": "“quotes”"}])
def test_texts_survive(tmp_path, payload):
    with connect(tmp_path) as connection:
        queue = connection.SimpleQueue(f"queue-{uuid.uuid4()}")  # kombu remembers bindings for the whole process
        queue.put(payload)
        assert queue.get(timeout=5).payload == payload
        queue.close()
