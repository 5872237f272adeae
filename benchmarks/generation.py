"""How much of an endpoint's capacity pre-generation uses: `python -m benchmarks.generation [--sets 320] [--enqueue 12500]`.

1. A bare loop of 32 threads over the same client asks a stub of 1 s latency, 32 calls at once: the most that can be had.
2. Pre-generation with `--threads` worker threads in `--processes` processes on PostgreSQL + Redis makes as many calls at the same stub.
   More threads than places keep the stub busy while others store; the endpoint's `concurrency` holds the calls at 32.
3. A study of 2,500 prompts in five languages is asked for and enqueued.
Needs DATABASE_URL (PostgreSQL; a database of its own is made beside it) and REDIS_URL (emptied of our queues).
"""

# ruff: noqa: E402  (Django is set up before its models are imported)
import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotation_site.settings")

import django

django.setup()

from django.db import connection
from django.utils import timezone

from apps.content.models import Prompt
from apps.generation.client import complete
from apps.generation.models import CandidateSet, GenerationPolicy, ModelSpec
from apps.generation.services import enqueue_pending, recount_study, request_candidate_set, request_sets_for_study, sweep
from apps.studies.models import Study
from benchmarks.stage import cpu_seconds, empty_queues, own_database, resident_megabytes, stub, worker
from tests.factories import BareStudyFactory, ModelSpecFactory, RecipeFactory, StudyLocaleFactory

THREADS, CALLS_PER_SET = 32, 2
STATE = CandidateSet.State


def make_study(url: str) -> Study:
    study = BareStudyFactory()
    StudyLocaleFactory(study=study)
    # One place more than the stub has: bulk work leaves one to live turns.
    ModelSpecFactory(study=study, base_url=url, concurrency=THREADS + 1, timeout_seconds=30, input_price=1, output_price=2)
    RecipeFactory(study=study)
    study.instruction_templates.filter(key="default").update(text_en="Answer in English.")
    GenerationPolicy.objects.create(study=study, budget=1000, near_duplicate_similarity=1)
    return study


def bare_loop(spec: ModelSpec, calls: int) -> float:
    """Calls per second."""
    messages = [{"role": "system", "content": "Answer in English."}, {"role": "user", "content": "How should I spend the day?"}]

    def ask(number: int) -> None:
        complete(model_spec=spec, messages=messages, temperature=1.0, seed=number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))
        started = time.monotonic()
        list(pool.map(ask, range(calls)))
        return calls / (time.monotonic() - started)


def pre_generate(study: Study, first: int, count: int) -> float:
    """Calls per second from enqueueing to the last READY set."""
    recipe = study.recipes.get()
    for number in range(first, first + count):
        request_candidate_set(recipe=recipe, language="en", text=f"How should I spend day number {number}?")
    started = time.monotonic()
    enqueue_pending(study=study)
    open_sets = CandidateSet.objects.filter(recipe=recipe, state__in=[STATE.PENDING, STATE.GENERATING])
    swept = started
    while open_sets.exists():
        time.sleep(0.2)
        if time.monotonic() - swept > 10:  # as Celery beat does: sets that found no place come back
            sweep(now=timezone.now())
            swept = time.monotonic()
    seconds = time.monotonic() - started
    failed = CandidateSet.objects.filter(recipe=recipe).exclude(state=STATE.READY).values_list("error_code", flat=True)
    if failed:
        raise SystemExit(f"{len(failed)} sets failed: {set(failed)}")
    return count * CALLS_PER_SET / seconds


def enqueue_many(sets: int) -> tuple[float, float]:
    """Seconds to store, and to enqueue, `sets` sets of five languages."""
    study = BareStudyFactory()
    languages = ["en", "fr", "it", "pt", "hi"]
    for country, language in zip(["US", "FR", "IT", "BR", "IN"], languages, strict=True):
        StudyLocaleFactory(study=study, country=country, language=language, name=language)
    RecipeFactory(study=study)
    Prompt.objects.bulk_create(
        Prompt(study=study, key=f"p{number}", **{f"text_{language}": f"Question {number} {language}?" for language in languages})
        for number in range(sets // len(languages))
    )
    started = time.monotonic()
    asked = request_sets_for_study(study=study)
    stored = time.monotonic()
    enqueued = enqueue_pending(study=study)
    assert enqueued == len(asked.ids) == sets
    return stored - started, time.monotonic() - stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=320, help="Sets of two calls each; a multiple of 32 (default 320).")
    parser.add_argument("--enqueue", type=int, default=12_500, help="Sets to store and enqueue in step 3 (default 12500).")
    parser.add_argument("--processes", type=int, default=1, help="Worker processes that share the threads (default 1).")
    parser.add_argument("--threads", type=int, default=THREADS, help="Worker threads together (default 32).")
    parser.add_argument("--latency", type=float, default=1.0, help="Of the stub, in seconds.")
    options = parser.parse_args()
    with own_database() as url, stub(latency=options.latency, places=THREADS) as endpoint:
        study = make_study(endpoint.url)
        spec = study.model_specs.get()
        bare = bare_loop(spec, options.sets * CALLS_PER_SET)
        print(f"bare loop, {THREADS} threads: {bare:.1f} calls/s", flush=True)
        with ExitStack() as stack:
            workers = [stack.enter_context(worker(url, threads=options.threads // options.processes)) for _ in range(options.processes)]
            pre_generate(study, 10_000, 128)  # imports, connections, checks
            before = [resident_megabytes(process.pid) for process in workers]
            busy = sum(cpu_seconds(process.pid) for process in workers)
            ours = pre_generate(study, 20_000, options.sets)
            busy = sum(cpu_seconds(process.pid) for process in workers) - busy
            after = [resident_megabytes(process.pid) for process in workers]
        shape = f"{options.processes} worker process(es) with {options.threads} threads together"
        print(f"pre-generation, {shape}: {ours:.1f} calls/s, ratio {ours / bare:.3f} (wanted 0.9)")
        print(f"workers' processor time: {busy / options.sets * 1000:.1f} ms a set")
        warm, later = (" + ".join(f"{size:.0f}" for size in sizes) for sizes in (before, after))
        print(f"workers' memory: {warm} MiB after warming up, {later} MiB after {options.sets} sets more")
        assert GenerationPolicy.objects.get(study=study).committed == recount_study(study)
        store, send = enqueue_many(options.enqueue)
        empty_queues()
        print(f"{options.enqueue} sets: stored in {store:.1f} s, enqueued in {send:.1f} s (wanted: 10 s together)")
        connection.close()


if __name__ == "__main__":
    main()
