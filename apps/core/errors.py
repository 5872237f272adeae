"""The base of every error that a rule of the domain raises."""

from typing import Any


class DomainError(Exception):
    """A rule said no. `code` is stable and machine-readable; `extra` holds plain figures for the message.

    Subclasses live beside what raises them and name the fact (`QuotaCellFull`). Views turn them into localized
    pages, the API into `{"code", "message", "extra"}`.
    """

    code = "error"

    def __init__(self, message: str = "", **extra: Any) -> None:
        super().__init__(message or self.code)
        self.extra = extra
