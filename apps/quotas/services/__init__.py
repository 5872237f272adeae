from apps.quotas.services.making import check_nobody_admitted, copy_table, make_quota, make_quotas
from apps.quotas.services.placing import complete_placements, expire_places, move_placements, place_annotator, release_placements
from apps.quotas.services.targets import set_target

__all__ = [
    "check_nobody_admitted",
    "complete_placements",
    "copy_table",
    "expire_places",
    "make_quota",
    "make_quotas",
    "move_placements",
    "place_annotator",
    "release_placements",
    "set_target",
]
