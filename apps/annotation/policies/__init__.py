"""Assignment policies: which slot a person gets next. A new policy is one file here, with a `POLICY`, and one test."""

from importlib import import_module
from pkgutil import iter_modules

from apps.annotation.policies.base import Choice, Policy

__all__ = ["DEFAULT", "POLICIES", "Choice", "Policy"]

DEFAULT = "fill_to_overlap"


def _found() -> dict[str, Policy]:
    """Every policy of this package, by key."""
    modules = (import_module(module.name) for module in iter_modules(__path__, prefix=f"{__name__}."))
    policies = [module.POLICY for module in modules if hasattr(module, "POLICY")]
    return {policy.key: policy for policy in policies}


POLICIES: dict[str, Policy] = _found()
