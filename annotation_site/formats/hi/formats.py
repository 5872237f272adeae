"""Dates in Hindi are written in numbers: Django's names of three months are misspelt."""

DATE_FORMAT = "j/n/Y"
