"""Dumping a study: the same study again from the dump, byte for byte the same dump from that."""

import tempfile
from pathlib import Path
from typing import get_args

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from apps.core.text import clean_text
from apps.desk.study_file import dump_study, load_study_file, read_study_file
from apps.desk.study_file.schema import Part, StudyFile
from apps.desk.study_file.snapshot import read_study
from apps.desk.study_file.source import read_source
from apps.desk.study_file.writing import _text
from apps.studies.models import Study
from tests.desk.study_files import ARMS, SMALL, changed, write
from tests.factories import StudyFactory

FULL = (
    (
        "  seed: 7\n",
        "  seed: -9\n  state: open\n  own_prompt_share: 0.25\n  max_conversations_per_day: 4\n"
        "  invitation: {en: Write!, fr: Écrivez !}\n  wave: 2\n  excluded_studies: [earlier]\n",
    ),
    (
        '    published_country: "united states"\n',
        '    published_country: "united states"\n    pay: {currency: USD, completed: 6.5, per_conversation: 0.75, screened_out: 0.25}\n',
    ),
    ("    model: polyphony-offline\n", "    base_url: https://host/v1\n    model: m-1\n    api_key_variable: KEY\n    input_price: 0.15\n"),
    ("    topic: family\n", "    topic: family\n    version: 4\n    is_gold: true\n"),
    ('    text:\n      en: "Answer', '    version: 3\n    text:\n      en: "Answer'),
    (
        "    completion_url",
        "    is_open: false\n    kind: prolific\n    participant_parameter: pid\n    purpose: preview\n    completion_code: C1\n"
        "    screen_out_code: S1\n    screen_out_url: https://panel.example/out\n    quota_full_code: Q1\n"
        "    quota_full_url: https://panel.example/full\n    completion_url",
    ),
    *ARMS,
    (
        "recruitment_links:\n",
        "assignment:\n  policy: fixed_set\n  set_size: 4\n  balance: {quota: women_and_men, max_share: 0.4}\n"
        "  repeat: {share: 0.1, after_tasks: 5, after_hours: 12}\n  gold: {share: 0.07}\n\nrecruitment_links:\n",
    ),
    (
        "quotas:\n  women_and_men:\n    kind: hard\n",
        'population:\n  builtin: ["US/gender"]\n  own:\n    census:\n      country: US\n      dimension: sex\n      year: "2024"\n'
        "      grade: B\n      source: A census.\n      note: Of adults.\n      shares:\n"
        "        women: {share: 0.512345, strata: {gender: [woman]}}\n        men: {share: 0.487655, strata: {gender: man}}\n"
        "quotas:\n  by_table: {kind: soft, locales: [en-US], table: US/gender, total: 11}\n"
        "  by_census: {locales: [fr-FR], table: census, total: 101, no_cell: ask, outside_share: 0.125}\n"
        "  women_and_men:\n    kind: hard\n",
    ),
    (
        "\nrecruitment_links:\n",
        "\nbalance:\n  seed: 41\n  min_annotators: 5\n  max_weight: 3.5\n"
        "  sets:\n    - {table: US/gender, locales: [en-US], weights: [census]}\n\nrecruitment_links:\n",
    ),
    ("Read **all** answers.", "Read **all** answers:  two  spaces, “quotes”, C:\\\\temp, # no comment, - no list"),
)


@pytest.mark.django_db
@pytest.mark.parametrize("replacements", [(), FULL], ids=["small", "every optional key"])
def test_a_dump_loads_to_the_same_study_and_dumps_to_the_same_bytes(tmp_path, replacements):
    StudyFactory(slug="earlier")
    _, file = read_study_file(write(tmp_path, changed(*replacements)))
    study = load_study_file(tmp_path / "study.yaml").study
    first = dump_study(study)
    _, dumped = read_study_file(write(tmp_path, first, "dump.yaml"))
    expected = file if replacements else file.model_copy(update={"study": file.study.model_copy(update={"state": "draft"})})
    assert dumped == expected
    Study.objects.filter(pk=study.pk).update(slug="first")
    again = load_study_file(tmp_path / "dump.yaml").study
    assert again.pk != study.pk
    assert dump_study(again) == first
    assert read_study(again) == dumped


@pytest.mark.django_db
def test_loading_a_dump_over_its_own_study_changes_nothing(tmp_path):
    study = load_study_file(write(tmp_path, SMALL)).study
    report = load_study_file(write(tmp_path, dump_study(study)))
    assert report.total("created") == report.total("updated") == report.total("removed") == 0


@pytest.mark.django_db
def test_every_key_of_the_format_is_dumped(tmp_path):
    StudyFactory(slug="earlier")
    study = load_study_file(write(tmp_path, changed(*FULL))).study
    dump = dump_study(study)

    def keys(model):
        for name, field in model.model_fields.items():
            yield name
            for part in _parts(field.annotation):
                yield from keys(part)

    missing = {key for key in keys(StudyFile) if f"{key}:" not in dump}
    assert missing <= {"help", "intro"}  # empty in this study
    assert "variants: [{model: offline}, {model: spare}]}" in dump


def _parts(annotation):
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts(argument)]


@pytest.mark.django_db
def test_a_dump_is_readable(tmp_path):
    dump = dump_study(load_study_file(write(tmp_path, SMALL)).study)
    assert "              - {code: woman, label: Woman, stratum: female, published: female}\n" in dump
    assert '              - {code: "yes", label: "Yes"}\n' in dump
    assert "        body: |-\n          Étude de {organisation}.\n\n          - Durée" in dump
    assert "\n      - {method: default, count: 1, model: offline, template: plain, temperature: 1}\n" in dump


@pytest.mark.django_db
def test_a_dump_holds_no_link_token(tmp_path):
    study = load_study_file(write(tmp_path, SMALL)).study
    assert study.recruitment_links.get().token not in dump_study(study)


@pytest.mark.django_db
def test_a_study_made_by_hand_can_be_dumped_and_loaded_elsewhere(tmp_path):
    study = StudyFactory()
    dump = dump_study(study)
    Study.objects.filter(pk=study.pk).update(slug="other")
    again = load_study_file(write(tmp_path, dump)).study
    assert again.pk != study.pk
    assert dump_study(again) == dump


@pytest.mark.django_db
def test_an_unfinished_study_can_be_dumped():
    study = Study.objects.create(slug="bare", title_en="Bare", organisation="X", contact_email="x@example.org", seed=1)
    assert dump_study(study).startswith("format: 1\n\nstudy:\n  slug: bare\n")


@pytest.mark.django_db
def test_the_command_writes_the_dump(tmp_path, capsys):
    study = load_study_file(write(tmp_path, SMALL)).study
    call_command("dump_study", "small")
    assert capsys.readouterr().out == dump_study(study)


@pytest.mark.django_db
def test_the_command_names_the_studies_there_are(tmp_path):
    load_study_file(write(tmp_path, SMALL))
    with pytest.raises(CommandError, match=r"There is no study “smal”\. Studies: small\."):
        call_command("dump_study", "smal")


class EveryText(TestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.text("a \n:#-'\"\\\u00a0é…\t|>{}[]\u2028", max_size=300))
    def test_every_clean_text_survives_writing_and_reading(self, text):
        text = clean_text(text).replace("\ufffe", "").replace("\uffff", "")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.yaml"
            path.write_text("a:\n" + "\n".join(_text("  b:", text, 2)) + "\n", encoding="utf-8", newline="")
            source = read_source(path)
        assert source.problems == []
        assert (source.tree["a"]["b"] or "") == text
