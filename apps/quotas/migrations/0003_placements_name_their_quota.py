"""Give the placements and cells made before this release what they now need."""

from django.db import migrations


def fill(apps, schema_editor):
    for cell in apps.get_model("quotas", "QuotaCell").objects.iterator():
        cell.strata = {question: strata if isinstance(strata, list) else [strata] for question, strata in cell.strata.items()}
        cell.save(update_fields=["strata"])
    for placement in apps.get_model("quotas", "Placement").objects.select_related("cell").iterator():
        placement.quota_id = placement.cell.quota_id
        if placement.state == "RELEASED":
            placement.release_reason = "WITHDRAWAL"
        placement.save(update_fields=["quota", "release_reason"])


class Migration(migrations.Migration):
    dependencies = [("quotas", "0002_sample")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
