"""Tasks are sent by name, so a wrong name would be a message that nobody takes."""

import ast
from pathlib import Path

from celery import current_app
from django.conf import settings

QUEUES = {"interactive", "bulk", "maintenance"}


def sent_tasks() -> list[tuple[str, str, str | None]]:
    """(file, task name, queue) of each `enqueue_on_commit(…)` and `send_task(…)` in apps/; names may be constants of the module."""
    found = []
    for source in sorted(Path(settings.BASE_DIR, "apps").rglob("*.py")):
        tree = ast.parse(source.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

        def value(node: ast.AST, constants: dict[str, str] = constants) -> str | None:
            return node.value if isinstance(node, ast.Constant) else constants.get(getattr(node, "id", ""))

        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            task = value(node.args[0])
            if called in {"enqueue_on_commit", "send_task"} and task is not None:
                queue = next((value(keyword.value) for keyword in node.keywords if keyword.arg == "queue"), None)
                found.append((str(source.relative_to(settings.BASE_DIR)), task, queue))
    return found


def registered_tasks() -> set[str]:
    current_app.loader.import_default_modules()
    return set(current_app.tasks)


def test_every_task_that_is_sent_is_registered():
    sent = sent_tasks()
    assert sent, "no task is sent anywhere: this test reads the wrong folder"
    assert [(file, name) for file, name, _ in sent if name not in registered_tasks()] == []


def test_every_queue_that_is_named_has_a_worker():
    assert [(file, queue) for file, _, queue in sent_tasks() if queue is not None and queue not in QUEUES] == []


def test_every_scheduled_task_is_registered():
    scheduled = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert scheduled
    assert scheduled <= registered_tasks()


def test_sabotage_an_unregistered_name_would_be_noticed():
    assert "generation.no_such_task" not in registered_tasks()
