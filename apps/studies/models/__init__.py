from apps.studies.models.access import ApiToken, StudyMembership
from apps.studies.models.design import TaskDesign, TurnDesign
from apps.studies.models.forms import ConsentForm, Guideline, Option, PracticeTask, Question, Questionnaire
from apps.studies.models.pay import PayRule
from apps.studies.models.study import Study, StudyLocale

__all__ = [
    "ApiToken",
    "ConsentForm",
    "Guideline",
    "Option",
    "PayRule",
    "PracticeTask",
    "Question",
    "Questionnaire",
    "Study",
    "StudyLocale",
    "StudyMembership",
    "TaskDesign",
    "TurnDesign",
]
