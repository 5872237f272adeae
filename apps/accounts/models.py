"""Researchers' accounts."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A researcher, translator or reviewer who logs in to the admin. Annotators never have an account."""
