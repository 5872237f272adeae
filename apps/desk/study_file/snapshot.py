"""A study in the database as the study file that would make it."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Model

from apps.annotators.models import RecruitmentLink
from apps.content.models import Prompt, Topic
from apps.core.text import clean_text
from apps.desk.study_file import schema
from apps.desk.study_file.balance import balance_part
from apps.desk.study_file.pay import excluded_slugs, pay_part
from apps.desk.study_file.plan import plan_part
from apps.desk.study_file.sample import population_of, quotas_of
from apps.generation.models import GenerationPolicy, InstructionTemplate, ModelSpec, Recipe
from apps.studies.models import ConsentForm, Guideline, Questionnaire, Study, StudyLocale, TaskDesign

_PARTS = ("parts__model_spec", "parts__template", "parts__variants__model_spec", "parts__variants__template")


def read_study(study: Study) -> schema.StudyFile:
    """`study` as it is now: the newest version of each text, current prompts and recipes.

    Nothing is validated: an unfinished study gives an unfinished file, which `load_study` will then explain.
    """
    recipes = list(study.recipes.filter(is_current=True).order_by("pk").prefetch_related(*_PARTS))
    return schema.StudyFile.model_construct(
        format=schema.FORMAT,
        study=_study(study),
        task_design=_task_design(study),
        locales=[_locale(locale) for locale in study.locales.order_by("pk")],
        population=population_of(study),
        quotas=quotas_of(study),
        assignment=plan_part(study),
        balance=balance_part(study),
        models={spec.key: _model(spec) for spec in _models_in_use(study)},
        templates={template.key: _template(template) for template in current_templates(study)},
        recipes={recipe.key: _recipe(recipe) for recipe in recipes},
        generation=_generation(study),
        topics={topic.key: texts_of(topic, "title") for topic in _topics_in_use(study)},
        prompts={prompt.key: _prompt(prompt) for prompt in current_prompts(study)},
        recruitment_links=[_link(link) for link in study.recruitment_links.order_by("pk").prefetch_related("locales")],
    )


def texts_of(row: Model, field: str) -> dict[str, str]:
    """Language → text of a translated field, in the order of the settings, without the missing ones."""
    texts = {language: getattr(row, f"{field}_{language}") for language in settings.CONTENT_LANGUAGES}
    return {language: clean_text(text) for language, text in texts.items() if text}


def current_prompts(study: Study) -> list[Prompt]:
    """Current prompts in the order in which their first versions were made."""
    first: dict[str, int] = {}
    for key, pk in study.prompts.order_by("pk").values_list("key", "pk"):
        first.setdefault(key, pk)
    prompts = study.prompts.filter(is_current=True).select_related("topic")
    return sorted(prompts, key=lambda prompt: first[prompt.key])


def current_templates(study: Study) -> list[InstructionTemplate]:
    """The newest version of each template, unless only earlier recipes use the template."""
    newest: dict[str, InstructionTemplate] = {}
    used: set[str] = set()
    retired: set[str] = set()
    for template in study.instruction_templates.order_by("pk"):
        if template.key not in newest or template.version > newest[template.key].version:
            newest[template.key] = template
    for *keys, is_current in study.recipes.values_list("parts__template__key", "parts__variants__template__key", "is_current"):
        (used if is_current else retired).update(keys)
    used.update(GenerationPolicy.objects.filter(study=study).values_list("judge_template__key", flat=True))
    return [template for key, template in newest.items() if key in used or key not in retired]


def _models_in_use(study: Study) -> Iterable[ModelSpec]:
    rows = list(study.recipes.values_list("parts__model_spec_id", "parts__variants__model_spec_id", "is_current"))
    used = {pk for *pks, is_current in rows for pk in pks if is_current}
    retired = {pk for *pks, is_current in rows for pk in pks if not is_current}
    for pks in GenerationPolicy.objects.filter(study=study).values_list("moderation_model_id", "judge_model_id"):
        used.update(pks)
    shown = [spec for spec in study.model_specs.order_by("pk") if spec.pk in used or spec.pk not in retired]
    replacements = {spec.replacement_id for spec in shown if spec.replacement_id is not None} - {spec.pk for spec in shown}
    return sorted([*shown, *study.model_specs.filter(pk__in=replacements)], key=lambda spec: spec.pk)


def _topics_in_use(study: Study) -> Iterable[Topic]:
    pairs = set(study.prompts.values_list("topic_id", "is_current"))
    return [topic for topic in study.topics.order_by("pk") if (topic.pk, True) in pairs or (topic.pk, False) not in pairs]


def _number(value: Decimal) -> Decimal:
    """Without trailing zeros: the database hands back 0.70 for 0.7."""
    value = Decimal(value)
    return value.quantize(Decimal(1)) if value == value.to_integral() else value.normalize()


def _study(study: Study) -> schema.StudyPart:
    return schema.StudyPart.model_construct(
        slug=study.slug,
        state=study.state.lower(),
        title=texts_of(study, "title"),
        invitation=texts_of(study, "invitation") or None,
        organisation=study.organisation,
        contact_email=study.contact_email,
        session_minutes=study.session_minutes,
        retention_months=study.retention_months,
        overlap=study.overlap,
        prompts_per_wave=study.prompts_per_wave,
        conversations_per_annotator=study.conversations_per_annotator,
        min_conversations=study.min_conversations,
        max_conversations_per_day=study.max_conversations_per_day,
        own_prompt_share=_number(study.own_prompt_share),
        lease_minutes=study.lease_minutes,
        place_hours=study.place_hours,
        wave=study.wave,
        excluded_studies=excluded_slugs(study),
        seed=study.seed,
    )


def _task_design(study: Study) -> schema.TaskDesignPart | None:
    design = TaskDesign.objects.filter(study=study).prefetch_related("turn_designs").first()
    if design is None:
        return None
    return schema.TaskDesignPart.model_construct(
        min_turns=design.min_turns,
        max_turns=design.max_turns,
        explanation=schema.ExplanationPart.model_construct(
            policy=design.explanation_policy.lower(), min_words=design.explanation_min_words
        ),
        turns=[
            schema.TurnsPart.model_construct(
                first=turns.first_turn,
                last=turns.last_turn,
                form=turns.form.lower(),
                k=turns.k,
                next_turn_source=turns.next_turn_source.lower(),
            )
            for turns in design.turn_designs.all()
        ],
    )


def _locale(locale: StudyLocale) -> schema.LocalePart:
    purposes, stages = ConsentForm.Purpose, Questionnaire.Stage
    return schema.LocalePart.model_construct(
        country=locale.country,
        language=locale.language,
        name=locale.name,
        published_country=locale.published_country,
        time_zone=locale.time_zone,
        explanation_min_words=locale.explanation_min_words,
        pay=pay_part(locale),
        consent=schema.ConsentsPart.model_construct(
            participation=_consent(locale, purposes.PARTICIPATION), sensitive=_consent(locale, purposes.SENSITIVE)
        ),
        guideline=_guideline(locale),
        questionnaires=schema.QuestionnairesPart.model_construct(
            eligibility=_questionnaire(locale, stages.ELIGIBILITY),
            before=_questionnaire(locale, stages.BEFORE),
            after=_questionnaire(locale, stages.AFTER),
        ),
    )


def _consent(locale: StudyLocale, purpose: str) -> schema.ConsentPart | None:
    form = locale.consent_forms.filter(purpose=purpose).order_by("-version").first()
    if form is None:
        return None
    return schema.ConsentPart.model_construct(
        version=form.version, title=clean_text(form.title), body=clean_text(form.body), statement=clean_text(form.statement)
    )


def _guideline(locale: StudyLocale) -> schema.GuidelinePart | None:
    guideline: Guideline | None = locale.guidelines.order_by("-version").prefetch_related("practice_tasks").first()
    if guideline is None:
        return None
    fields = ("prompt", "better", "worse", "feedback_right", "feedback_wrong")
    return schema.GuidelinePart.model_construct(
        version=guideline.version,
        title=clean_text(guideline.title),
        body=clean_text(guideline.body),
        practice=[
            schema.PracticePart.model_construct(None, **{field: clean_text(getattr(task, field)) for field in fields})
            for task in guideline.practice_tasks.all()
        ],
    )


def _questionnaire(locale: StudyLocale, stage: str) -> schema.QuestionnairePart | None:
    questionnaire = locale.questionnaires.filter(stage=stage).order_by("-version").prefetch_related("questions__options").first()
    if questionnaire is None:
        return None
    return schema.QuestionnairePart.model_construct(
        version=questionnaire.version,
        consent=questionnaire.consent.lower(),
        title=clean_text(questionnaire.title),
        intro=clean_text(questionnaire.intro),
        questions=[_question(question) for question in questionnaire.questions.all()],
    )


def _question(question: Any) -> schema.QuestionPart:
    fields = ("code", "min_age", "max_age", "stratum", "published", "screens_out", "prevails", "exclusive")
    return schema.QuestionPart.model_construct(
        code=question.code,
        type=question.type.lower(),
        column=question.column or None,
        published_when_several=question.published_when_several,
        required=question.required,
        text=clean_text(question.text),
        help=clean_text(question.help),
        options=[
            schema.OptionPart.model_construct(label=clean_text(option.label), **{field: getattr(option, field) for field in fields})
            for option in question.options.all()
        ],
    )


def _model(spec: ModelSpec) -> schema.ModelPart:
    return schema.ModelPart.model_construct(
        base_url=spec.base_url,
        model=spec.model,
        api_key_variable=spec.api_key_variable,
        max_tokens=spec.max_tokens,
        timeout_seconds=spec.timeout_seconds,
        structured_output=spec.structured_output,
        concurrency=spec.concurrency,
        requests_per_minute=spec.requests_per_minute,
        tokens_per_minute=spec.tokens_per_minute,
        input_price=_number(spec.input_price),
        output_price=_number(spec.output_price),
        budget=None if spec.budget is None else _number(spec.budget),
        replacement=spec.replacement.key if spec.replacement else None,
    )


def _template(template: InstructionTemplate) -> schema.TemplatePart:
    return schema.TemplatePart.model_construct(version=template.version, text=texts_of(template, "text"))


def _recipe(recipe: Recipe) -> schema.RecipePart:
    return schema.RecipePart.model_construct(
        version=recipe.version,
        parts=[
            schema.RecipePartPart.model_construct(
                method=part.method,
                count=part.count,
                model=part.model_spec.key,
                template=part.template.key,
                temperature=_number(part.temperature),
                variants=[
                    schema.VariantPart.model_construct(
                        model=variant.model_spec.key if variant.model_spec else None,
                        template=variant.template.key if variant.template else None,
                    )
                    for variant in part.variants.all()
                ],
            )
            for part in recipe.parts.all()
        ],
    )


def _generation(study: Study) -> schema.GenerationPart | None:
    """None where every setting is the default, whether or not the study has a row for what it spent."""
    policy = GenerationPolicy.objects.filter(study=study).select_related("moderation_model", "judge_model", "judge_template").first()
    if policy is None:
        return None
    part = schema.GenerationPart.model_construct(
        budget=None if policy.budget is None else _number(policy.budget),
        min_words=policy.min_words,
        max_words=policy.max_words,
        max_length_ratio=_number(policy.max_length_ratio),
        near_duplicate_similarity=_number(policy.near_duplicate_similarity),
        diversity_floor=_number(policy.diversity_floor),
        max_regenerations=policy.max_regenerations,
        moderation_model=policy.moderation_model.key if policy.moderation_model else None,
        judge_model=policy.judge_model.key if policy.judge_model else None,
        judge_template=policy.judge_template.key if policy.judge_template else None,
    )
    return None if part == schema.GenerationPart() else part


def _prompt(prompt: Prompt) -> schema.PromptPart:
    return schema.PromptPart.model_construct(
        version=prompt.version,
        topic=prompt.topic.key if prompt.topic else None,
        is_gold=prompt.is_gold,
        text=texts_of(prompt, "text"),
    )


def _link(link: RecruitmentLink) -> schema.RecruitmentLinkPart:
    return schema.RecruitmentLinkPart.model_construct(
        name=link.name,
        locales=[locale.tag for locale in sorted(link.locales.all(), key=lambda locale: locale.pk)],
        kind=link.kind.lower(),
        purpose=link.purpose.lower(),
        is_open=link.is_open,
        participant_parameter=link.participant_parameter,
        completion_code=link.completion_code,
        completion_url=link.completion_url,
        screen_out_code=link.screen_out_code,
        screen_out_url=link.screen_out_url,
        quota_full_code=link.quota_full_code,
        quota_full_url=link.quota_full_url,
    )
