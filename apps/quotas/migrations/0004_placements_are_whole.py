import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("quotas", "0003_placements_name_their_quota")]
    operations = [
        migrations.AlterField(
            model_name="placement",
            name="quota",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="placements", to="quotas.quota"),
        ),
        migrations.AddConstraint(
            model_name="placement",
            constraint=models.CheckConstraint(
                condition=(Q(state="RELEASED") & ~Q(release_reason="")) | (~Q(state="RELEASED") & Q(release_reason="")),
                name="placement_released_with_reason",
            ),
        ),
    ]
