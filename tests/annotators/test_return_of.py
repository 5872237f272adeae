import pytest

from apps.annotators.models import Annotator
from apps.annotators.selectors import Return, return_of
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, StudyFactory

pytestmark = pytest.mark.django_db
URL = "https://panel.example/{}?cc={{code}}"


def ended(state, **link_fields) -> Annotator:
    study = StudyFactory()
    link = RecruitmentLinkFactory(study=study, **link_fields)
    annotator = AnnotatorFactory(study=study, recruitment_link=link)
    annotator.state = state
    return annotator


def test_each_outcome_takes_its_own_code_back():
    codes = {"completion_code": "C1", "screen_out_code": "S1", "quota_full_code": "Q1"}
    urls = {f"{outcome}_url": URL.format(outcome) for outcome in ("completion", "screen_out", "quota_full")}
    for state, code, outcome in [
        ("COMPLETED", "C1", "completion"),
        ("SCREENED_OUT", "S1", "screen_out"),
        ("QUOTA_FULL", "Q1", "quota_full"),
    ]:
        assert return_of(ended(state, **codes, **urls)) == Return(code, f"https://panel.example/{outcome}?cc={code}")


def test_without_a_code_of_the_link_the_person_has_their_own():
    annotator = ended("COMPLETED", completion_url=URL.format("done"))
    assert return_of(annotator) == Return(annotator.completion_code, f"https://panel.example/done?cc={annotator.completion_code}")


@pytest.mark.parametrize("state", ["SCREENED_OUT", "QUOTA_FULL"])
def test_a_persons_own_code_stands_for_completion_only(state):
    """Else somebody who was turned away could hand it in as completed."""
    annotator = ended(state, screen_out_url=URL.format("out"), quota_full_url=URL.format("full"))
    assert return_of(annotator).code == ""
    assert annotator.completion_code not in return_of(annotator).url


@pytest.mark.parametrize("state", ["RETURNED", "WITHDRAWN", "ACTIVE"])
def test_who_did_not_end_here_takes_nothing_back(state):
    assert return_of(ended(state, completion_code="C1", completion_url=URL.format("done"))) == Return()


def test_a_code_cannot_break_out_of_the_address():
    annotator = ended("COMPLETED", completion_code="a&b=c d", completion_url=URL.format("done"))
    assert return_of(annotator).url == "https://panel.example/done?cc=a%26b%3Dc%20d"
