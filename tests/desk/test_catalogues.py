"""Catalogues are compiled without gettext's tools, and every kind of gap is found."""

import gettext
import os

import pytest

from apps.desk.catalogues import catalogue_problems, compile_catalogues

HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: nplurals=2; plural=(n > 1);\\n"\n\n'
WHOLE = (
    'msgid "Hello %(name)s"\nmsgstr "Bonjour %(name)s"\n\n'
    'msgid "%d day"\nmsgid_plural "%d days"\nmsgstr[0] "un jour"\nmsgstr[1] "%d jours"\n'
)


@pytest.fixture
def catalogue(tmp_path):
    path = tmp_path / "fr" / "LC_MESSAGES" / "django.po"
    path.parent.mkdir(parents=True)
    path.write_text(HEADER + WHOLE)
    return path


def test_a_catalogue_is_compiled_once_and_again_when_it_changed(tmp_path, catalogue):
    assert compile_catalogues(tmp_path) == [catalogue.with_suffix(".mo")]
    assert compile_catalogues(tmp_path) == []
    with catalogue.with_suffix(".mo").open("rb") as compiled:
        translation = gettext.GNUTranslations(compiled)
    assert translation.gettext("Hello %(name)s") == "Bonjour %(name)s"
    assert translation.ngettext("%d day", "%d days", 3) == "%d jours"
    later = catalogue.stat().st_mtime + 5
    catalogue.write_text(HEADER + WHOLE.replace("Bonjour", "Salut"))
    os.utime(catalogue, (later, later))
    assert compile_catalogues(tmp_path) == [catalogue.with_suffix(".mo")]


def test_a_whole_catalogue_has_no_problem(tmp_path, catalogue):
    assert list(catalogue_problems(tmp_path, ["fr"])) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("Bonjour %(name)s", "", "is not translated"),
        ("Bonjour %(name)s", "Bonjour", "other placeholders"),
        ("Bonjour %(name)s", "Bonjour %(nom)s", "other placeholders"),
        ("%d jours", "%s jours", "other placeholders"),
        ("%d jours", "", "is not translated"),
        ('msgid "Hello', '#, fuzzy\nmsgid "Hello', "is fuzzy"),
        (WHOLE, WHOLE + '\n#~ msgid "Old"\n#~ msgstr "Vieux"\n', "is obsolete"),
    ],
)
def test_each_gap_is_named_with_its_language(tmp_path, catalogue, before, after, said):
    catalogue.write_text(catalogue.read_text().replace(before, after))
    (problem,) = catalogue_problems(tmp_path, ["fr"])
    assert problem.startswith("fr, line ")
    assert said in problem


def test_a_missing_catalogue_is_a_problem(tmp_path, catalogue):
    (problem,) = catalogue_problems(tmp_path, ["fr", "hi"])
    assert problem.startswith("hi: there is no catalogue")
