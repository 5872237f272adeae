"""What models really write is cleaned or refused with a code."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.text import fingerprint
from apps.generation.acceptance import (
    MAX_CHARACTERS,
    AnswerRefused,
    Finding,
    check_answers,
    clean_answer,
    examine_answers,
    examine_set,
)
from apps.generation.methods.base import parse_marked
from apps.generation.models import GenerationPolicy
from tests.endpoints import banks
from tests.generation.hostile import ELSEWHERE, LANGUAGES, good_answers


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Talk to them.<|end_of_text|>", "Talk to them."),
        ("Talk to them.</s>", "Talk to them."),
        ("<|im_start|>Talk to them.<|im_end|>\n", "Talk to them."),
        ("Answer 1: Talk to them.", "Talk to them."),
        ("**Answer 2:** Talk to them.", "Talk to them."),
        ("## Response B\n\nTalk to them.", "Talk to them."),
        ("Réponse 3 : Parlez-leur.", "Parlez-leur."),
        ("Risposta: Ne parli con loro.", "Ne parli con loro."),
        ("उत्तर 1: उनसे बात करें।", "उनसे बात करें।"),
        ("1. Talk to them.", "Talk to them."),
        ("(2) Talk to them.", "Talk to them."),
        ("1. Talk.\n2. Listen.", "1. Talk.\n2. Listen."),
        ("Answer the phone less often.", "Answer the phone less often."),
        ("Option B is what I would take.", "Option B is what I would take."),
        ("2024 was a hard year.", "2024 was a hard year."),
        ("A\x00B\ud800C\ufeff", "ABC"),
        ("Line\r\nend", "Line\nend"),
        ("- Talk.\n- Listen.", "- Talk.\n- Listen."),
        ("<b>Talk</b> <script>to</script> them.", "<b>Talk</b> <script>to</script> them."),
        ("My answer would be to talk to them.", "My answer would be to talk to them."),
        ("Here is what I would do: talk to them.", "Here is what I would do: talk to them."),
        ("A child who is heard will listen.", "A child who is heard will listen."),
        ("e\u0301", "\u00e9"),
        ("क्\u200dष और न्\u200cत", "क्\u200dष और न्\u200cत"),
    ],
)
def test_an_answer_is_cleaned(raw, cleaned):
    assert clean_answer(raw) == cleaned


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], "wrong_count"),
        (["one", "two"], "wrong_count"),
        (["one", "two", "three", "four"], "wrong_count"),
        (["one", "two", ""], "empty_answer"),
        (["one", "two", "—!"], "empty_answer"),
        (["one", "two", "x" * (MAX_CHARACTERS + 1)], "answer_too_long"),
        (["one", "two", "see [[answer]] here"], "marker_in_answer"),
        (["one", "Two words.", "two  WORDS"], "duplicate_answers"),
    ],
)
def test_answers_are_refused_with_a_code(answers, code):
    with pytest.raises(AnswerRefused) as refusal:
        check_answers(answers, count=3)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "output",
    [
        "[[answer]]\none\n\n[[answer]]\ntwo\n\n[[answer]]\nthree",
        "Here are three answers:\n\n[[answer]] one\n[[answer]] two\n[[answer]] three<|eot_id|>",
        "**[[Answer 1]]**\none\n**[[Answer 2]]**\ntwo\n**[[Answer 3]]**\nthree",
        "[[answer]]\nAnswer 1: one\n[[answer]]\nAnswer 2: two\n[[answer]]\nAnswer 3: three",
    ],
)
def test_marked_answers_are_read(output):
    assert parse_marked(output, count=3) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "output", ["", "one two three", "one\n[[answer]]\ntwo\n[[answer]]\nthree", "[[answer]]\none\n[[answer]]\n\n[[answer]]\nthree"]
)
def test_output_with_too_few_answers_is_refused(output):
    with pytest.raises(AnswerRefused):
        parse_marked(output, count=3)


@given(st.lists(st.from_regex(r"\A[a-z]{3,8}( [a-z]{3,8}){1,5}\Z"), min_size=2, max_size=5, unique_by=fingerprint))
@settings(max_examples=50, deadline=None)
def test_what_was_marked_comes_back(answers):
    output = "\n\n".join(f"[[answer]]\n{answer}" for answer in answers)
    assert parse_marked(output, count=len(answers)) == answers


# --- What passes ----------------------------------------------------------------------------------------------------


def refused(findings: list[Finding]) -> list[tuple[str, int | None, str]]:
    return [(finding.check_name, finding.slot, finding.detail) for finding in findings if finding.refuses]


def sets_served(language: str) -> list[tuple[str, ...]]:
    """Every set that the demo can serve in `language`: the written ones, and each turn of the offline replies."""
    served = [(*known.negatively_correlated, *known.default) for code, known in banks()._known.values() if code == language]
    replies = banks()._replies[language]
    turns = range(len(replies.negatively_correlated))
    varied = [(replies.negatively_correlated * 2)[turn : turn + 3] for turn in turns]
    return [*served, *((*some, default) for some in varied for default in replies.default)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_the_demo_serves_passes_with_the_default_policy(language):
    policy = GenerationPolicy()
    served = sets_served(language)
    assert len(served) >= 18
    for texts in served:
        assert [clean_answer(text) for text in texts] == [text.strip() for text in texts]
        assert refused(examine_answers(list(texts), language=language, policy=policy)) == []
        report = examine_set(list(texts), language=language, policy=policy)
        assert refused(report.findings) == []
        assert 0.2 < report.diversity < 0.8


GOOD_ADVICE = {
    "en": [
        "I'm sorry to hear that your dinners end in quarrels. Put the phones in a drawer and talk about the day instead.",
        "I can't decide this for you, but I can tell you what other families have tried and what came of it for them.",
        "I cannot help thinking of my own childhood, when nobody had a phone and we still found ways to avoid talking.",
        "Unfortunately there is no perfect answer. Try one week without phones at the table and see how it feels to you.",
        "You could ask ChatGPT for a list of games, or simply let your children choose what is talked about at dinner.",
        "As an aid to memory, write the rule down. Choose a drawer, pick a time, and let everybody sign it at the table.",
        "If she says “choose me or the phone”, then something else is wrong, and it is time to sit down and talk calmly.",
        "The best answer is often a compromise: phones stay away on weekdays, and the weekend is everybody's own affair.",
        "Ask a teacher or an AI engineer in your family how these apps are made, and talk about it with your children.",
        "Option A is best if your evenings are calm; option B is better when everybody comes home late and hungry.",
        "In any case, the user of a phone at the table should be told kindly that this is the hour for each other.",
        "Refuse to argue at the table. I would decline an invitation to quarrel and bring the matter up again later.",
    ],
    "fr": [
        "Je suis désolé d'apprendre que vos repas finissent en disputes. Rangez les téléphones et parlez de la journée.",
        "Je ne peux pas décider à votre place, mais je peux vous dire ce que d'autres familles ont essayé chez elles.",
        "La meilleure réponse est souvent un compromis : pas de téléphone en semaine, et chacun fait ce qu'il veut le samedi.",
        "Choisissez un tiroir, choisissez une heure, et laissez chacun signer la règle que vous aurez écrite ensemble.",
        "En tant que parent, vous avez le droit de poser une règle, et vos enfants ont le droit de la discuter avec vous.",
    ],
    "it": [
        "Mi dispiace che le vostre cene finiscano in litigi. Mettete via i telefoni e parlate della giornata di ognuno.",
        "Non posso decidere al posto suo, ma posso dirle che cosa hanno provato altre famiglie e come è andata a loro.",
        "La risposta migliore è spesso un compromesso: niente telefono in settimana, e il sabato ognuno fa come vuole.",
        "Scelga un cassetto, scelga un'ora e lasci che tutti firmino la regola che avete scritto insieme a tavola.",
        "Come genitore lei ha il diritto di dare una regola, e i suoi figli hanno il diritto di discuterla con lei.",
        "Scegli mi sembra una parola grossa: provate per una settimana e poi parlatene di nuovo tutti insieme a cena.",
    ],
    "pt": [
        "Sinto muito que os jantares acabem em brigas. Guardem os celulares em uma gaveta e conversem sobre o dia.",
        "Não posso decidir por você, mas posso contar o que outras famílias tentaram e como foi para cada uma delas.",
        "A melhor resposta costuma ser um meio-termo: nada de celular durante a semana, e no sábado cada um faz como quer.",
        "Escolha uma gaveta, escolha um horário e deixe que todos assinem a regra que vocês escreveram juntos à mesa.",
        "Como mãe, você tem o direito de dar uma regra, e os seus filhos têm o direito de discuti-la com você.",
    ],
    "hi": [
        "यह सुनकर अफ़सोस हुआ कि आपके घर में खाने पर झगड़ा होता है। फ़ोन एक दराज़ में रखें और दिन भर की बातें करें।",
        "मैं आपकी जगह फ़ैसला नहीं कर सकता, पर बता सकता हूँ कि दूसरे परिवारों ने क्या आज़माया और उसका क्या नतीजा निकला।",
        "सबसे अच्छा रास्ता अक्सर बीच का होता है: हफ़्ते में फ़ोन नहीं, और शनिवार को हर कोई अपने मन का करे।",
        "एक दराज़ चुनें, एक समय चुनें और जो नियम आप सबने मिलकर लिखा है उस पर सबके हस्ताक्षर करवा लें।",
        "माता-पिता होने के नाते आपको नियम बनाने का हक़ है, और बच्चों को उस पर आपसे बात करने का हक़ है।",
    ],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_good_advice_that_sounds_a_little_like_it_passes(language):
    assert refused(examine_answers(GOOD_ADVICE[language], language=language, policy=GenerationPolicy())) == []


ROMANISED_HINDI = [
    "Apne maata pita se baat karein aur unhe batayein ki aap is naukri ke baare mein kya sochte hain. Paise zaroori hain.",
    "Aap dono milkar tay karein ki khane ke samay phone kahan rakhe jayenge. Bachchon ki baat bhi suniye, kyunki unki raay zaroori hai.",
    "Dekho yaar, job to har saal mil jaati hai, lekin parents ke saath time nahi milta. Isliye pehle unse baat kar lo, phir decide karo.",
    "Pehle ghar ke bade logon se puchhein, phir apna faisla karein. Jaldi mat kijiye aur thoda paisa bacha kar rakhiye apne liye.",
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", ROMANISED_HINDI)
def test_romanised_hindi_is_unsure_and_never_refused(text, language):
    findings = examine_answers([text], language=language, policy=GenerationPolicy())
    language_finding = next(finding for finding in findings if finding.check_name == "language")
    assert (language_finding.passed, language_finding.refuses) == (True, False)
    assert language_finding.detail.startswith("unsure")


def test_a_short_text_in_another_language_is_unsure():
    policy = GenerationPolicy(min_words=1)
    for text in ("Ja.", "Oui, bien sûr.", "Sim!"):
        finding = next(f for f in examine_answers([text], language="en", policy=policy) if f.check_name == "language")
        assert (finding.passed, finding.figure, finding.detail) == (True, None, "unsure: too short to tell")


# --- Figures --------------------------------------------------------------------------------------------------------


def figures(findings: list[Finding], slot: int | None = 0) -> dict[str, float | None]:
    return {finding.check_name: finding.figure for finding in findings if finding.slot == slot}


def test_every_check_tells_its_figure_for_every_answer():
    answers = [good_answers("en")[0], ELSEWHERE["french"]]
    findings = examine_answers(answers, language="en", policy=GenerationPolicy())
    first, second = figures(findings, 0), figures(findings, 1)
    checks = ["refusal", "self_naming", "addresses_annotator", "leftover_prompt", "language", "repetition", "too_short", "too_long"]
    assert list(first) == list(second) == checks
    assert (first["refusal"], first["too_short"]) == (0, len(good_answers("en")[0].split()))
    assert first["language"] > 0.99
    assert second["language"] < 0.01
    assert first["repetition"] > 0.9


def test_a_set_tells_its_matrix_measure_and_figures():
    texts = list(good_answers("en"))
    report = examine_set(texts, language="en", policy=GenerationPolicy())
    assert [finding.check_name for finding in report.findings] == ["duplicate", "near_duplicate", "length_ratio", "diversity"]
    above = [report.similarity[i][j] for i in range(4) for j in range(i + 1, 4)]
    told = figures(report.findings, None)
    assert told["near_duplicate"] == max(above)
    assert told["diversity"] == report.diversity == pytest.approx(1 - sum(above) / 6, abs=0.0001)
    assert report.measure == "sentence_encoder"
    assert examine_set(texts, language="hi", policy=GenerationPolicy()).measure == "character_ngrams"


@pytest.mark.parametrize(
    ("policy", "check_name"),
    [
        ({"near_duplicate_similarity": "0.30"}, "near_duplicate"),
        ({"max_length_ratio": "1.01"}, "length_ratio"),
        ({"diversity_floor": "0.90"}, "diversity"),
    ],
)
def test_a_study_sets_its_own_limits_for_a_set(policy, check_name):
    report = examine_set(list(good_answers("en")), language="en", policy=GenerationPolicy(**policy))
    assert [name for name, _, _ in refused(report.findings)] == [check_name]
    assert all(len(finding.detail) <= 300 for finding in report.findings)


def test_a_study_sets_its_own_limits_for_an_answer():
    answers = list(good_answers("en"))[:1]
    words = len(answers[0].split())
    shorter, longer = GenerationPolicy(max_words=words - 1), GenerationPolicy(min_words=words + 1)
    assert [name for name, _, _ in refused(examine_answers(answers, language="en", policy=shorter))] == ["too_long"]
    assert [name for name, _, _ in refused(examine_answers(answers, language="en", policy=longer))] == ["too_short"]


def test_a_single_answer_is_as_diverse_as_can_be():
    report = examine_set([good_answers("en")[0]], language="en", policy=GenerationPolicy(diversity_floor="1.00"))
    assert (report.diversity, report.similarity, refused(report.findings)) == (1, [[1.0]], [])
