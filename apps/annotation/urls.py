from django.urls import path

from apps.annotation.views import joining, pages, panel, questions, task

app_name = "annotation"
urlpatterns = [
    path("join/<slug:token>/", joining.join, name="join"),
    path("join/<slug:token>/opened/", joining.opened, name="opened"),
    path("panel/<slug:token>/status/", panel.status, name="panel_status"),
    path("resume/<str:token>/", joining.resume, name="resume"),
    path("task/", pages.current, name="current"),
    path("task/locale/", joining.locale, name="locale"),
    path("task/questions/", questions.questions, name="questions"),
    path("task/consent/", questions.consent, name="consent"),
    path("task/guideline/", questions.guideline, name="guideline"),
    path("task/practice/", questions.practice, name="practice"),
    path("task/start/", task.start, name="start"),
    path("task/compare/", task.compare, name="compare"),
    path("task/message/", task.message, name="message"),
    path("task/wait/", task.wait, name="wait"),
    path("task/wait/status/", task.wait_status, name="wait_status"),
    path("task/trouble/", task.trouble, name="trouble"),
    path("task/paused/", task.paused, name="paused"),
    path("task/done/", task.done, name="done"),
    path("task/ended/", task.ended, name="ended"),
    path("task/leave/", joining.leave, name="leave"),
]
