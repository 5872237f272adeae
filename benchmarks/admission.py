"""What an admission costs with many quota cells: `python -m benchmarks.admission [--people 300]`.

One hard quota whose cells part the people by one answer, with 5 and with 500 cells, each in a study of its own. People with an answer each
are placed one after the other (`place_annotator`: find the cells, lock them, count, reserve); 5 and 500 take turns, so that both see the
same machine. Printed is the median of each and the ratio. Needs DATABASE_URL (PostgreSQL; a database of its own is made beside it).
"""

# ruff: noqa: E402  (Django is set up before its models are imported)
import argparse
import os
import statistics
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.db import connection
from django.utils import timezone

from apps.annotators.models import Annotator
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.quotas.models import Quota, QuotaCell
from apps.quotas.services import place_annotator
from apps.studies.models import Questionnaire, Study
from benchmarks.stage import own_database
from tests.factories import AnnotatorFactory, StudyFactory, add_question

FEW, MANY = 5, 500


def make_study(cells: int) -> Study:
    study = StudyFactory()
    locale = study.locales.first()
    before = locale.questionnaires.get(stage=Questionnaire.Stage.BEFORE)
    add_question(before, 3, "profile", "SINGLE", [{"code": f"c{number}"} for number in range(cells)])
    quota = Quota.objects.create(study=study, key="profile", kind=Quota.Kind.HARD)
    quota.locales.set([locale])
    QuotaCell.objects.bulk_create(
        QuotaCell(quota=quota, key=f"c{number}", strata={"profile": [f"c{number}"]}, target=10_000) for number in range(cells)
    )
    return study


def make_person(study: Study, number: int) -> Annotator:
    """Somebody who has answered the question that the quota asks about."""
    annotator: Annotator = AnnotatorFactory(study=study)
    before = annotator.study_locale.questionnaires.get(stage=Questionnaire.Stage.BEFORE)
    question = before.questions.get(code="profile")
    options = list(question.options.order_by("pk"))
    response = QuestionnaireResponse.objects.create(
        annotator=annotator, questionnaire=before, submission_id=annotator.submission_id, body_hash="", submitted_at=timezone.now()
    )
    DemographicAnswer.objects.create(
        annotator=annotator,
        response=response,
        consent=annotator.consents.get(),
        question=question,
        option=options[number % len(options)],
    )
    return annotator


def milliseconds(annotator: Annotator) -> float:
    annotator = Annotator.objects.select_related("study", "study_locale", "recruitment_link").get(pk=annotator.pk)
    started = time.perf_counter()
    place_annotator(annotator=annotator, now=timezone.now())
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=300, help="Admissions with each number of cells (default 300).")
    options = parser.parse_args()
    with own_database():
        people = {}
        for cells in (FEW, MANY):
            study = make_study(cells)
            people[cells] = [make_person(study, number) for number in range(options.people + 20)]
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        times: dict[int, list[float]] = {FEW: [], MANY: []}
        for pair in zip(people[FEW], people[MANY], strict=True):
            for cells, annotator in zip((FEW, MANY), pair, strict=True):
                times[cells].append(milliseconds(annotator))
        few, many = (statistics.median(times[cells][20:]) for cells in (FEW, MANY))
        seen = f"{few:.2f} ms with {FEW} cells, {many:.2f} ms with {MANY}; ratio {many / few:.2f}"
        print(f"{options.people} admissions each: {seen} (wanted at most 1.5)")
        connection.close()


if __name__ == "__main__":
    main()
