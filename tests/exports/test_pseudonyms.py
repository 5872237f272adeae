"""Pseudonyms: stable, keyed per study and kind, and without the order of joining."""

import json
import re

import pytest

from apps.exports.services import build_release
from apps.studies.pseudonyms import Kind, Pseudonyms
from tests.exports.build import make_conversation
from tests.factories import AnnotatorFactory, PromptFactory, StudyFactory


def test_they_are_stable_and_differ_by_study_kind_and_key(settings):
    name = Pseudonyms(1).of(Kind.ANNOTATOR, 7)
    assert re.fullmatch(r"a_[a-z2-7]{20}", name)
    assert Pseudonyms(1).of(Kind.ANNOTATOR, 7) == name
    others = {Pseudonyms(2).of(Kind.ANNOTATOR, 7)[2:], Pseudonyms(1).of(Kind.CONVERSATION, 7)[2:], Pseudonyms(1).of(Kind.ANNOTATOR, 8)[2:]}
    settings.PSEUDONYM_KEY = "another key"
    others.add(Pseudonyms(1).of(Kind.ANNOTATOR, 7)[2:])
    assert len(others | {name[2:]}) == 5


@pytest.mark.django_db
def test_rows_are_sorted_by_pseudonym_and_not_by_joining(tmp_path):
    study = StudyFactory()
    prompt = PromptFactory(study=study)
    people = [AnnotatorFactory(study=study) for _ in range(12)]
    for annotator in people:
        make_conversation(annotator, prompt=prompt, choices=(0,))
    build_release(study=study, schema="long", formats=["jsonl"], directory=tmp_path / "out")
    rows = [json.loads(line)["annotator_id"] for line in (tmp_path / "out" / "annotators.jsonl").read_text().splitlines()]
    assert rows == sorted(rows)
    assert rows != [Pseudonyms(study.pk).of(Kind.ANNOTATOR, annotator.pk) for annotator in people]
    conversations = [json.loads(line)["conversation_id"] for line in (tmp_path / "out" / "comparisons.jsonl").read_text().splitlines()]
    assert conversations == sorted(conversations)
