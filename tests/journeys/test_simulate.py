import json
import os
import subprocess
import sys
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from apps.annotation.models import ComparisonItem
from apps.annotators.models import Annotator, RecruitmentLink
from apps.desk.simulation.crowd import send_crowd
from apps.desk.simulation.links import Links
from apps.studies.models import Study
from tests.annotation.fieldwork import seated_study
from tests.journeys.stage import link_to


@pytest.fixture
def study(transactional_db) -> Study:
    return seated_study(prompts=6)


@pytest.fixture
def links_file(study, live_server, tmp_path):
    """What `recruitment_links` prints for the study, in a file."""
    for tag in ("en-US", "fr-FR"):
        link_to(study, live_server.url, tag)
    printed = StringIO()
    call_command("recruitment_links", study.slug, stdout=printed)
    path = tmp_path / "links.json"
    path.write_text(printed.getvalue())
    return path


def simulate(study: str, path, **options) -> str:
    printed = StringIO()
    call_command("simulate", study, **{"annotators": 4, "links": path, "patience": 60} | options, stdout=printed)
    return printed.getvalue()


def test_it_sends_people_evenly_over_the_locales_and_prints_what_happened(study, live_server, links_file, worker):
    printed = simulate(study.slug, links_file, base_url=live_server.url, annotators=4)
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines] == ["locale", "en-US", "fr-FR", "all"]
    counts = {line[0]: [int(cell) for cell in line[1:7]] for line in lines[1:]}
    for tag in ("en-US", "fr-FR"):
        assert counts[tag][:6] == [2, 2, 0, 0, 0, 4]
        assert Annotator.objects.filter(study_locale__language=tag[:2], state=Annotator.State.COMPLETED).count() == 2
    assert counts["all"] == [4, 4, 0, 0, 0, 8]
    letters = dict(zip(lines[-1][8:-1:2], map(int, lines[-1][9:-1:2]), strict=True))
    turns = int(lines[-1][7])
    assert sum(letters.values()) == turns >= 16
    assert set(letters) <= set("ABCD")


def test_the_same_seed_draws_the_same_people_and_another_seed_others(study, live_server, worker):
    links = Links(study=study.slug, by_tag={"fr-FR": link_to(study, live_server.url, "fr-FR")})

    def drawn(seed: int) -> list:
        (journey,) = send_crowd(links=links, annotators=1, seed=seed)
        turns = [(turn.number, turn.chosen.position, turn.explanation) for turn in journey.turns]
        return [journey.outcome, journey.answers, journey.sensitive_consent, turns]

    assert drawn(5) == drawn(5)
    assert drawn(5)[1:] != drawn(6)[1:]


def test_people_who_get_stuck_make_it_fail_with_reasons(study, live_server, links_file, capfd):
    printed = StringIO()
    with pytest.raises(CommandError) as error:
        call_command(
            "simulate", study.slug, annotators=2, links=links_file, base_url=live_server.url, locale=["fr-FR"], patience=1, stdout=printed
        )
    assert "2 of 2 did not come to an end" in str(error.value)
    assert "2 × fr-FR: the answers of a live turn did not come within 1 s; does a worker run?" in str(error.value)
    row = printed.getvalue().splitlines()[1].split()
    assert row[:8] == ["fr-FR", "2", "0", "0", "0", "2", "2", "2"]


def test_a_paused_study_is_a_reason_too(study, live_server, links_file):
    Study.objects.update(state=Study.State.PAUSED)
    with pytest.raises(CommandError, match=r"page “.*” answered HTTP 410"):
        simulate(study.slug, links_file, base_url=live_server.url, annotators=1)


def test_from_the_shell_it_needs_the_pages_alone_and_no_database(study, live_server, links_file, worker, tmp_path):
    """Its own process, told of a database that does not exist."""
    nowhere = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing", "POLYPHONY_VAR_DIR": str(tmp_path)}
    command = [sys.executable, "manage.py", "simulate", study.slug, "--annotators", "1", "--locale", "fr-FR", "--patience", "60"]
    command += ["--base-url", live_server.url, "--links", str(links_file), "--policy", "slot_a"]
    ran = subprocess.run(command, cwd=settings.BASE_DIR, env=os.environ | nowhere, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    row = ran.stdout.splitlines()[1].split()
    assert row[:7] == ["fr-FR", "1", "1", "0", "0", "0", "2"]
    assert row[8:-1] == ["A", row[7]]
    assert "Synthetic annotators: 100%" in ran.stderr
    best = ComparisonItem.objects.filter(rank=1).values_list("shown_candidate__position", flat=True)
    assert set(best) == {0}
    assert len(best) == int(row[7])


def test_missing_links_study_locale_and_server_are_one_clear_line_each(tmp_path):
    path = tmp_path / "demo.json"
    with pytest.raises(CommandError, match=r"There is no file .*demo.json. Start the demo \(make demo\), or write the file with"):
        simulate("everyday", path)
    path.write_text("{broken")
    with pytest.raises(CommandError, match="is not a readable JSON file"):
        simulate("everyday", path)
    path.write_text(json.dumps({"username": "admin"}))
    with pytest.raises(CommandError, match="holds no recruitment links"):
        simulate("everyday", path)
    path.write_text(json.dumps({"study": "other", "links": {"fr-FR": "http://127.0.0.1:9/join/x/"}}))
    with pytest.raises(CommandError, match="holds the links of the study 'other', not of 'everyday'"):
        simulate("everyday", path)
    with pytest.raises(CommandError, match="has no link for hi-IN; it has fr-FR"):
        simulate("other", path, locale=["hi-IN"])
    with pytest.raises(CommandError, match="should look like http"):
        simulate("other", path, base_url="localhost:8000")
    with pytest.raises(CommandError, match=r"http://127.0.0.1:9/join/x/ does not answer: .*refused.*Start it \(make demo\)"):
        simulate("other", path)


def test_a_locale_whose_language_nobody_writes_is_refused_before_anybody_starts(study, live_server, tmp_path):
    path = tmp_path / "links.json"
    path.write_text(json.dumps({"study": study.slug, "links": {"de-DE": link_to(study, live_server.url, "fr-FR")}}))
    with pytest.raises(CommandError, match="do not write de yet"):
        simulate(study.slug, path)
    assert not Annotator.objects.exists()


@pytest.mark.django_db
def test_recruitment_links_prefers_a_locale_of_its_own_and_leaves_out_closed_links(capsys):
    study = seated_study()
    both = RecruitmentLink.objects.create(study=study, name="both")
    both.locales.set(study.locales.all())
    own = RecruitmentLink.objects.create(study=study, name="French")
    own.locales.set(study.locales.filter(language="fr"))
    call_command("recruitment_links", study.slug, base_url="https://study.example.org")
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "study": study.slug,
        "base_url": "https://study.example.org",
        "links": {
            "en-US": f"https://study.example.org/join/{both.token}/",
            "fr-FR": f"https://study.example.org/join/{own.token}/",
        },
    }
    own.kind = RecruitmentLink.Kind.PROLIFIC
    own.save()
    call_command("recruitment_links", study.slug)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["links"]["fr-FR"].endswith(f"/{both.token}/")  # anybody can join by it
    assert not printed.err
    RecruitmentLink.objects.filter(pk=both.pk).update(is_open=False)
    call_command("recruitment_links", study.slug)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["links"]["fr-FR"].endswith(f"/{own.token}/")
    assert "“French” needs an identity in the address" in printed.err
    RecruitmentLink.objects.update(is_open=False)
    with pytest.raises(CommandError, match="has no open recruitment link"):
        call_command("recruitment_links", study.slug)
    with pytest.raises(CommandError, match=f"There is no study 'other'. Studies: {study.slug}"):
        call_command("recruitment_links", "other")
