"""What the API sends. Every field is named here; output only, read from the dataclasses of `exports.selectors`."""

from typing import Any

from rest_framework import serializers

from apps.api.pagination import encode_cursor
from apps.exports.selectors import FeedEntry, PublishedCandidate, iso
from apps.quotas.selectors import CellCount

Serializer = serializers.Serializer[Any]


class OptionSerializer(Serializer):
    code = serializers.CharField()
    published = serializers.CharField(allow_null=True, help_text="Literal in the published column; null: missing.")


class AnswerSerializer(Serializer):
    question = serializers.CharField(help_text="Code of the question.")
    column = serializers.CharField(allow_blank=True, help_text="Published column that it feeds; empty: none.")
    published = serializers.CharField(allow_null=True, help_text="Value in that column; null: missing.")
    options = OptionSerializer(many=True)


class AnnotatorSerializer(Serializer):
    annotator_id = serializers.CharField(source="pseudonym", help_text="Pseudonym, the same in every release of the study.")
    locale = serializers.CharField(help_text="For example hi-IN.")
    language = serializers.CharField()
    country = serializers.CharField(help_text="As published, for example india.")
    wave = serializers.IntegerField()
    answers = AnswerSerializer(many=True, help_text="Demographic answers as they stand at the time of reading.")


class CandidateSerializer(Serializer):
    letter = serializers.CharField(help_text="Letter on this annotator's screen.")
    position = serializers.IntegerField(help_text="From 0, in the order this annotator saw.")
    candidate_id = serializers.CharField(source="pseudonym", help_text="The same for everybody who saw it.")
    slot = serializers.IntegerField(help_text="Generation slot, from 0.")
    source = serializers.CharField(help_text="Sampling method, or “curated”.")  # type: ignore[assignment]  # a field of this name
    model = serializers.CharField(allow_null=True)
    text = serializers.CharField()
    rank = serializers.IntegerField(allow_null=True, help_text="1 is best.")
    chosen = serializers.BooleanField()


class ChangeSerializer(Serializer):
    """What every entry of the feed has."""

    cursor = serializers.SerializerMethodField(help_text="Hand it back as `cursor` to get what came after this entry.")
    comparison_id = serializers.CharField(source="comparison_pseudonym")

    def get_cursor(self, entry: FeedEntry) -> str:
        return encode_cursor(entry.position)


class ErasedSerializer(ChangeSerializer):
    """A comparison that was erased: delete your copy."""

    change = serializers.ChoiceField(source="kind", choices=["ERASED"])


class ComparisonSerializer(ChangeSerializer):
    """A comparison that was added, or a new revision of one."""

    change = serializers.ChoiceField(source="kind", choices=["ADDED", "REVISED"])
    revision = serializers.IntegerField(source="comparison.revision")
    is_current = serializers.BooleanField(source="comparison.is_current")
    conversation_id = serializers.CharField(source="comparison.conversation")
    assignment_state = serializers.CharField(
        source="comparison.assignment_state",
        help_text="At the time of reading. Releases hold COMPLETED only; ACTIVE is unfinished, SURPLUS never counts.",
    )
    annotator = AnnotatorSerializer(source="comparison.annotator")
    purpose = serializers.ChoiceField(source="comparison.purpose", choices=["MAIN", "OWN"])
    prompt_key = serializers.CharField(source="comparison.prompt_key", allow_null=True)
    prompt_version = serializers.IntegerField(source="comparison.prompt_version", allow_null=True)
    recipe = serializers.CharField(source="comparison.recipe")
    recipe_version = serializers.IntegerField(source="comparison.recipe_version")
    turn_number = serializers.IntegerField(source="comparison.turn_number", help_text="From 1.")
    message = serializers.CharField(source="comparison.message")
    message_language = serializers.CharField(source="comparison.message_language", allow_null=True)
    candidate_set_id = serializers.CharField(source="comparison.candidate_set")
    is_live = serializers.BooleanField(source="comparison.is_live", help_text="Whether the candidates were made for this turn.")
    form = serializers.CharField(source="comparison.form")
    candidates = CandidateSerializer(source="comparison.candidates", many=True, help_text="In the order this annotator saw.")
    outcome = serializers.ChoiceField(source="comparison.outcome", choices=["PREFERENCE", "TIE", "NONE"])
    chosen_letter = serializers.SerializerMethodField()
    chosen_candidate_id = serializers.SerializerMethodField()
    explanation = serializers.CharField(source="comparison.explanation", allow_null=True)
    explanation_language = serializers.CharField(source="comparison.explanation_language", allow_null=True)
    shown_at = serializers.SerializerMethodField(help_text="ISO 8601 with offset.")
    answered_at = serializers.SerializerMethodField(help_text="ISO 8601 with offset.")
    device_class = serializers.CharField(source="comparison.device_class", allow_null=True)
    layout = serializers.CharField(source="comparison.layout", allow_null=True)

    def get_chosen_letter(self, entry: FeedEntry) -> str | None:
        chosen = _chosen(entry)
        return chosen.letter if chosen else None

    def get_chosen_candidate_id(self, entry: FeedEntry) -> str | None:
        chosen = _chosen(entry)
        return chosen.pseudonym if chosen else None

    def get_shown_at(self, entry: FeedEntry) -> str | None:
        return iso(entry.comparison.shown_at) if entry.comparison else None

    def get_answered_at(self, entry: FeedEntry) -> str | None:
        return iso(entry.comparison.answered_at) if entry.comparison else None


def _chosen(entry: FeedEntry) -> PublishedCandidate | None:
    return entry.comparison.chosen if entry.comparison else None


def entry_data(entry: FeedEntry) -> dict[str, Any]:
    """One entry of the feed, as JSON-ready data."""
    serializer = ComparisonSerializer(entry) if entry.comparison else ErasedSerializer(entry)
    return dict(serializer.data)


class LocaleSerializer(Serializer):
    locale = serializers.CharField(source="tag")
    name = serializers.CharField()
    language = serializers.CharField()
    country = serializers.CharField(source="published_country")


class CountsSerializer(Serializer):
    annotators = serializers.IntegerField()
    conversations = serializers.IntegerField()
    comparisons = serializers.IntegerField()


class StudySerializer(Serializer):
    slug = serializers.CharField()
    title = serializers.DictField(child=serializers.CharField(), help_text="Title by language.")
    state = serializers.ChoiceField(choices=["DRAFT", "OPEN", "PAUSED", "CLOSED"])
    locales = LocaleSerializer(many=True)
    counts = CountsSerializer(help_text="What a release built now would hold.")


class StudyListSerializer(Serializer):
    results = StudySerializer(many=True)


class QuotaCellSerializer(Serializer):
    quota = serializers.CharField()
    kind = serializers.ChoiceField(choices=["HARD", "SOFT", "MONITOR"])
    locales = serializers.ListField(child=serializers.CharField(), help_text="Tags that the quota spans, for example hi-IN.")
    cell = serializers.CharField(allow_null=True, help_text="null: people outside the cells.")
    target = serializers.IntegerField(allow_null=True, help_text="Outside the cells their limit; null: no limit.")
    reserved = serializers.IntegerField(help_text="Admitted and at work.")
    completed = serializers.IntegerField(help_text="Including those that are over.")
    released = serializers.IntegerField(help_text="Left, expired or withdrew; the place is free again.")
    over = serializers.IntegerField(help_text="Completed after their place had gone to somebody else; not counted towards the target.")
    taken = serializers.IntegerField(help_text="reserved + completed − over: what counts towards the target.")

    def to_representation(self, instance: CellCount) -> dict[str, Any]:
        return {**super().to_representation(instance), "cell": None if instance.is_outside else instance.cell}


class QuotasSerializer(Serializer):
    study = serializers.CharField()
    counted_at = serializers.CharField(help_text="ISO 8601 with offset.")
    cells = QuotaCellSerializer(many=True, help_text="In the order of quotas and cells; after each quota those outside its cells.")


class ErrorSerializer(Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    extra = serializers.DictField()
