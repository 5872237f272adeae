"""Vacuum the tables of the claim early: see "Autovacuum" in docs/deployment.md. PostgreSQL only."""

from django.db import migrations

TABLES = ("annotation_slot", "annotation_assignment")
SETTINGS = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    # Also where few pages have dead rows: they lie together at the front of the queue, and each claim reads past their index entries.
    "vacuum_index_cleanup": "on",
    "autovacuum_analyze_scale_factor": "0.01",
    "autovacuum_analyze_threshold": "1000",
    "autovacuum_vacuum_cost_limit": "2000",
}


def store(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        values = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} SET ({values})")


def reset(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} RESET ({', '.join(SETTINGS)})")


class Migration(migrations.Migration):

    dependencies = [("annotation", "0002_sample")]

    operations = [migrations.RunPython(store, reset)]
