"""`manage.py build_release`: files, and errors in one clear line."""

import pytest
from django.core.management import CommandError, call_command

from apps.exports.models import Release
from tests.factories import StudyFactory

pytestmark = pytest.mark.django_db


def test_it_writes_the_named_formats_and_shows_what_it_wrote(study, tmp_path, capsys):
    call_command("build_release", study.slug, "--schema", "long", "--format", "csv,parquet", "--out", str(tmp_path / "new" / "folder"))
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    stems = ("comparisons", "candidates", "candidate_sets", "attempts", "annotators", "prompts")
    tables = {f"{stem}.{suffix}" for stem in stems for suffix in ("csv", "parquet")}
    assert names == tables | {"manifest.json", "README.md", "codebook.csv", "codebook.md"}
    printed = capsys.readouterr()
    assert f"{study.slug} release 1 (long) is in {tmp_path / 'new' / 'folder'}:" in printed.out
    assert "comparisons.csv" in printed.out
    assert "100%" in printed.err


def test_without_a_folder_it_goes_to_the_storage(study, capsys):
    call_command("build_release", study.slug, "-v", "0")
    assert f"the releases storage, study-{study.pk}/release-0001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "There is no study “nowhere”; known studies: "),
        (["{slug}", "--schema", "broad"], "There is no release schema “broad”; choose one of community_alignment, long."),
        (["{slug}", "--format", "csv,xlsx"], "There is no file format “xlsx”; choose from csv, jsonl, parquet."),
        (["{slug}", "--out", "{out}"], "is not an empty folder. Name a new one"),
    ],
)
def test_errors_are_one_clear_line(study, tmp_path, options, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError) as caught:
        call_command("build_release", *[option.format(slug=study.slug, out=tmp_path) for option in options])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Release.objects.exists()


def test_a_refusal_says_why(tmp_path):
    study = StudyFactory(k=2)
    with pytest.raises(CommandError, match=r"cannot express the study.*shows 2 candidates.*Use the schema long instead"):
        call_command("build_release", study.slug, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
