"""Where Django's own way to write dates needs mending, one package per language."""
