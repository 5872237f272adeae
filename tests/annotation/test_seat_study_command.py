import pytest
from django.core.management import CommandError, call_command

from apps.annotation.models import Slot
from tests.factories import PromptFactory, StudyFactory

pytestmark = pytest.mark.django_db


def test_it_makes_the_slots_once_and_says_how_many(capsys):
    study = StudyFactory(slug="mine", overlap=3)
    PromptFactory.create_batch(2, study=study)
    call_command("seat_study", "mine")
    assert "12 added, 0 retired, 0 reopened" in capsys.readouterr().out
    call_command("seat_study", "mine")
    assert "0 added" in capsys.readouterr().out
    assert Slot.objects.count() == 12


def test_an_unknown_study_is_named_with_those_there_are():
    StudyFactory(slug="mine")
    with pytest.raises(CommandError, match=r"There is no study 'nowhere'. Studies: mine\."):
        call_command("seat_study", "nowhere")
