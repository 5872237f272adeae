"""The release schemas. `schema_named` gives the definition from which rows, files and codebook follow."""

from collections.abc import Iterable

from apps.exports.errors import UnknownSchema
from apps.exports.schemas import community_alignment, long
from apps.exports.schemas.base import Column, Schema, Table

SCHEMA_TITLES = {community_alignment.SCHEMA.name: community_alignment.SCHEMA.title, "long": long.schema_for(()).title}

__all__ = ["SCHEMA_TITLES", "Column", "Schema", "Table", "schema_named"]


def schema_named(name: str, question_codes: Iterable[str] = ()) -> Schema:
    """The schema `name`; `question_codes` are the study's questions, which the long annotators file turns into columns.

    Raises `UnknownSchema`.
    """
    if name == community_alignment.SCHEMA.name:
        return community_alignment.SCHEMA
    if name == "long":
        return long.schema_for(question_codes)
    raise UnknownSchema(f"There is no release schema “{name}”; choose one of {', '.join(SCHEMA_TITLES)}.")
