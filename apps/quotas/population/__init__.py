"""Population tables: the built-in ones, a researcher's own, and how shares become targets."""

from apps.quotas.population.builtin import builtin_tables
from apps.quotas.population.own import read_own_table
from apps.quotas.population.tables import Stratum, Table, TableRefused, overlaps, rounded_targets

__all__ = ["Stratum", "Table", "TableRefused", "builtin_tables", "overlaps", "read_own_table", "rounded_targets"]
