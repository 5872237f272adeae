"""A release as a whole: manifest, repeatability, nothing half-written, numbers, and the worker that builds it."""

import hashlib
import json
import threading
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.exports import services, tasks
from apps.exports.errors import ReleaseRefused
from apps.exports.models import Release
from apps.exports.selectors import current_watermark, release_size
from apps.exports.services import build_release, build_requested_release, enqueue_overdue_releases, request_release
from tests.exports.build import make_conversation
from tests.factories import AnnotatorFactory, PromptFactory, StudyFactory

ALL = ["csv", "jsonl", "parquet"]
SCHEMAS = ["community_alignment", "long"]


def digests(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.django_db
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_manifest_tells_the_truth(study, tmp_path, schema):
    release = build_release(study=study, schema=schema, formats=ALL, directory=tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == release.manifest
    listed = {file["name"]: file for file in manifest["files"]}
    assert set(listed) | {"manifest.json"} == {path.name for path in (tmp_path / "out").iterdir()}
    for name, digest in digests(tmp_path / "out").items():
        if name != "manifest.json":
            assert listed[name]["sha256"] == digest
            assert listed[name]["bytes"] == (tmp_path / "out" / name).stat().st_size
    for file in manifest["files"]:
        if file.get("format") == "jsonl":
            assert file["rows"] == len((tmp_path / "out" / file["name"]).read_text().splitlines())
    size = release_size(study)
    counts = manifest["counts"]
    assert (counts["annotators"], counts["conversations"], counts["comparisons"]) == (3, 6, 18)
    assert (size.annotators, size.conversations, size.comparisons) == (3, 6, 18)
    assert manifest["watermark"]["change_id"] == current_watermark().change_id
    assert release.state == Release.State.BUILT
    assert release.built_at is not None


@pytest.mark.django_db
@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_same_data_gives_the_same_bytes(study, tmp_path, schema):
    for name in ("one", "two"):
        build_release(study=study, schema=schema, formats=ALL, directory=tmp_path / name)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    del one["manifest.json"], two["manifest.json"]
    assert one == two
    make_conversation(study.annotators.first())
    build_release(study=study, schema=schema, formats=ALL, directory=tmp_path / "three")
    assert digests(tmp_path / "three") != one


@pytest.mark.django_db
def test_chunks_do_not_show_in_the_files(study, tmp_path, monkeypatch):
    build_release(study=study, schema="long", formats=["csv"], directory=tmp_path / "one")
    monkeypatch.setattr(services, "CHUNK", 2)
    seen = []
    build_release(
        study=study, schema="long", formats=["csv"], directory=tmp_path / "two", progress=lambda done, total: seen.append((done, total))
    )
    assert {**digests(tmp_path / "one"), "manifest.json": ""} == {**digests(tmp_path / "two"), "manifest.json": ""}
    assert seen == [(2, 6), (4, 6), (6, 6)]


@pytest.mark.django_db
@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_empty_study_gives_empty_typed_files(tmp_path, schema):
    import pyarrow.parquet

    release = build_release(study=StudyFactory(), schema=schema, formats=ALL, directory=tmp_path / "out")
    assert release.manifest["counts"]["comparisons"] == 0
    table = "comparisons" if schema == "long" else schema
    assert str(pyarrow.parquet.read_schema(tmp_path / "out" / f"{table}.parquet").field("wave").type) == "int64"


@pytest.mark.django_db
def test_queries_grow_by_chunk_and_not_by_row(tmp_path):
    study = StudyFactory()
    prompts = [PromptFactory(study=study) for _ in range(3)]

    def queries(name: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            build_release(study=study, schema="long", formats=["csv"], directory=tmp_path / name)
        return len(captured)

    for _ in range(2):
        make_conversation(AnnotatorFactory(study=study), prompt=prompts[0], choices=(0,))
    few = queries("few")
    for prompt in prompts:
        for _ in range(10):
            make_conversation(AnnotatorFactory(study=study), prompt=prompt, choices=(0, 1, 2))
    assert queries("many") == few
    # 500 conversations are one chunk: at most 12 further queries per 500 to 2,000 rows.
    assert services.CHUNK == 500
    original, services.CHUNK = services.CHUNK, 16
    try:
        assert queries("two chunks") - few <= 12 * 2
    finally:
        services.CHUNK = original


@pytest.mark.django_db
def test_r17_a_failed_build_leaves_no_file_and_says_why(study, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("apps.exports.rows.candidate_row", fail)
    with pytest.raises(OSError, match="No space left"):
        build_release(study=study, schema="long", formats=ALL, directory=tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []
    release = Release.objects.get()
    assert release.state == Release.State.FAILED
    assert release.error == "The build stopped with OSError: No space left on device"


@pytest.mark.django_db
def test_p6_a_column_outside_the_schema_fails_the_build(study, tmp_path, monkeypatch):
    original = services.rows.prompt_row
    monkeypatch.setattr("apps.exports.rows.prompt_row", lambda prompt: {**original(prompt), "secret": "x"})
    with pytest.raises(ValueError, match=r"prompts: the row's columns differ from the schema: \['secret'\]"):
        build_release(study=study, schema="long", formats=["csv"], directory=tmp_path / "out")


@pytest.mark.django_db
def test_releases_are_numbered_per_study(study):
    other = StudyFactory()
    for number in (1, 2):
        assert build_release(study=study, schema="long", formats=["csv"]).number == number
    assert build_release(study=other, schema="long", formats=["csv"]).number == 1


@pytest.mark.django_db
def test_a_worker_builds_a_requested_release_into_the_storage(study, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        release = request_release(study=study, schema="long", formats=["parquet", "csv"], built_by=None)
    assert len(callbacks) == 1
    assert (release.state, release.formats) == (Release.State.BUILDING, ["csv", "parquet"])
    tasks.build_release(release.pk)
    release.refresh_from_db()
    assert (release.state, release.folder) == (Release.State.BUILT, f"study-{study.pk}/release-0001")
    assert "comparisons.parquet" in storages["releases"].listdir(release.folder)[1]
    built_at = release.built_at
    tasks.build_release(release.pk)
    release.refresh_from_db()
    assert release.built_at == built_at


@pytest.mark.django_db
def test_a_second_press_does_not_start_a_second_build(study):
    first = request_release(study=study, schema="long", formats=["csv"], built_by=None)
    assert request_release(study=study, schema="long", formats=["csv"], built_by=None) == first
    assert request_release(study=study, schema="long", formats=["jsonl"], built_by=None) != first


@pytest.mark.django_db
def test_a_request_that_the_schema_cannot_express_makes_no_row():
    with pytest.raises(ReleaseRefused):
        request_release(study=StudyFactory(k=2), schema="community_alignment", formats=["csv"], built_by=None)
    assert not Release.objects.exists()


@pytest.mark.django_db
def test_a_worker_writes_a_later_refusal_on_the_row(study):
    release = request_release(study=study, schema="community_alignment", formats=["csv"], built_by=None)
    study.task_design.turn_designs.update(k=3)
    tasks.build_release(release.pk)
    release.refresh_from_db()
    assert release.state == Release.State.FAILED
    assert "shows 3 candidates" in release.error


@pytest.mark.django_db
def test_r11_a_build_in_progress_is_left_alone(study):
    release = request_release(study=study, schema="long", formats=["csv"], built_by=None)
    with services._sole_builder(release.pk) as alone:
        assert alone
        build_requested_release(release_id=release.pk)
        release.refresh_from_db()
        assert release.state == Release.State.BUILDING
    build_requested_release(release_id=release.pk)
    release.refresh_from_db()
    assert release.state == Release.State.BUILT


@pytest.mark.django_db
def test_a_build_that_died_before_its_row_was_marked_is_done_again(study):
    release = request_release(study=study, schema="long", formats=["csv"], built_by=None)
    folder = storages["releases"].path(f"study-{study.pk}")
    storages["releases"].save(f"study-{study.pk}/release-0001/half.csv", ContentFile(b"half"))
    build_requested_release(release_id=release.pk)
    assert set(storages["releases"].listdir(folder)[0]) == {"release-0001"}
    assert "half.csv" not in storages["releases"].listdir(f"{folder}/release-0001")[1]


@pytest.mark.django_db
def test_releases_whose_message_was_lost_are_sent_again(study, django_capture_on_commit_callbacks):
    request_release(study=study, schema="long", formats=["csv"], built_by=None)
    with django_capture_on_commit_callbacks() as callbacks:
        assert enqueue_overdue_releases(now=timezone.now()) == 0
        assert enqueue_overdue_releases(now=timezone.now() + timedelta(minutes=2)) == 1
    assert len(callbacks) == 1


def test_tasks_are_registered_under_their_names():
    assert tasks.build_release.name == "exports.build_release"
    assert tasks.sweep.name == "exports.sweep"


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_numbers_stay_unique_in_a_race():
    study = StudyFactory()
    errors = []

    def build() -> None:
        try:
            services._create_release(study, "long", ["csv"], None)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(Release.objects.values_list("number", flat=True)) == list(range(1, 9))
