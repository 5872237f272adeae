# ruff: noqa: E501  (one text per line is easier to read than its pieces)
"""Bad model outputs: what they are called, what the model sends, and what has to become of them.

`bad_answers` are texts that stand where one answer of a set should stand; `bad_outputs` are whole outputs. `code` is the reason with
which the output is refused; where it is "", the output is cleaned and no accepted text may hold `trace`.
"""

import json
from dataclasses import dataclass
from functools import cache

from apps.generation.offline_endpoint.banks import MARKER, Banks
from tests.endpoints import banks

LANGUAGES = ("en", "fr", "it", "pt", "hi")
LONG = "Put all phones in a drawer before the food is served, yours included, and let the eldest begin the conversation. "


@dataclass(frozen=True)
class BadAnswer:
    """One answer gone wrong. `trace` is what must not be seen of it, where it is cleaned."""

    name: str
    language: str
    text: str
    code: str = ""
    trace: str = ""


@dataclass(frozen=True)
class BadOutput:
    """A whole output gone wrong, for three answers in English; `structured` where JSON was asked for."""

    name: str
    text: str
    code: str = ""
    trace: str = ""
    structured: bool = False


class ScriptedBanks(Banks):
    """Makes the offline endpoint write `text` whatever it is asked; where `other` is given, only where marked answers are asked for."""

    def __init__(self, text: str = "", other: str | None = None) -> None:
        super().__init__([])
        self.text, self.other = text, other

    def answer(self, *, system: str, messages: list[str], seed: int) -> str:
        return self.text if self.other is None or MARKER in system else self.other


@cache
def good_answers(language: str) -> tuple[str, ...]:
    """Four hand-written answers to one prompt: three that differ and the balanced one."""
    known = [answers for code, answers in banks()._known.values() if code == language]
    return (*known[0].negatively_correlated, *known[0].default)


@cache
def written(language: str) -> tuple[str, ...]:
    """All hand-written answers in `language`."""
    return tuple(text for code, answers in banks()._known.values() if code == language for text in answers.negatively_correlated)


def marked(answers: list[str]) -> str:
    return "\n\n".join(f"[[answer]]\n{answer}" for answer in answers)


def as_json(answers: object) -> str:
    return json.dumps({"answers": answers})


REFUSALS = {
    "en": [
        "I'm sorry, but I can't help with that. Please talk to a professional who knows your situation better than I do.",
        "I can't assist with this request. If there is anything else you would like to talk about, let me know.",
        "I cannot provide advice on family matters, because everybody's situation is different and I might be wrong.",
        "I’m unable to discuss this topic. Perhaps there is something else in which I may be of use to you today?",
        "Unfortunately, I won't be able to help you here, since this is a private matter of your family and not one for me.",
        "**Sorry**, I am not able to help you with this question. Please ask about something else instead, thank you.",
    ],
    "fr": [
        "Je suis désolé, mais je ne peux pas vous aider avec cela. Adressez-vous à un professionnel qui connaît votre situation.",
        "Je ne peux pas répondre à cette demande, car elle touche à votre vie privée et à celle de votre famille.",
        "Désolée, je ne suis pas en mesure de vous fournir un conseil sur ce sujet. Posez-moi une autre question.",
        "Malheureusement, il m'est impossible de répondre à cette question, qui dépasse ce que je suis autorisé à traiter.",
    ],
    "it": [
        "Mi dispiace, ma non posso aiutarti con questa richiesta. Ti consiglio di rivolgerti a un professionista di fiducia.",
        "Non sono in grado di fornire consigli su questo argomento. C'è qualcos'altro di cui vorrebbe parlare oggi?",
        "Purtroppo non posso rispondere a questa domanda, perché riguarda la vita privata della sua famiglia e dei suoi figli.",
        "Devo rifiutare: questa richiesta riguarda una scelta personale e non è compito mio dire che cosa fare in casa sua.",
    ],
    "pt": [
        "Desculpe, mas não posso ajudar com isso. Procure um profissional que conheça melhor a sua situação e a da sua família.",
        "Não consigo responder a essa pergunta, porque ela envolve a vida privada da sua família e dos seus filhos.",
        "Sinto muito, mas não estou autorizado a fornecer conselhos sobre esse assunto. Pergunte outra coisa, por favor.",
        "Infelizmente, não posso atender a esse pedido. Há alguma outra coisa sobre a qual você gostaria de conversar hoje?",
    ],
    "hi": [
        "माफ़ कीजिए, मैं इस विषय में आपकी मदद नहीं कर सकता। कृपया किसी जानकार व्यक्ति से बात करें जो आपकी स्थिति समझता हो।",
        "क्षमा करें, मैं इस अनुरोध को पूरा नहीं कर सकती। आप चाहें तो मुझसे कोई और सवाल पूछ सकते हैं।",
        "मैं इस बारे में सलाह देने में असमर्थ हूँ, क्योंकि यह आपके परिवार का निजी मामला है और सबकी स्थिति अलग होती है।",
        "मैं आपके इस सवाल का जवाब नहीं दे सकता, क्योंकि यह आपके घर का निजी मामला है और इसमें मेरा बोलना ठीक नहीं।",
    ],
}
SELF_NAMING = {
    "en": [
        "As an AI language model, I have no children, but many families put the phones away during dinner and like it.",
        "I'm ChatGPT, and I would suggest that you put the phones away during dinner and talk about the day instead.",
        "That is a good question. I am a large language model, so take this with care: put the phones away during dinner.",
        "I was trained by Google, and what I have read says that families who eat without phones talk more with each other.",
        "As an AI, I don't have personal opinions, but there are good reasons to keep the table free of phones at dinner.",
        "My name is Claude 3 and I think that you should keep the table free of phones, at least while you are eating.",
        "Put the phones away. I do not have personal experiences, but many families find that it helps them to talk more.",
    ],
    "fr": [
        "En tant qu'intelligence artificielle, je n'ai pas d'enfants, mais beaucoup de familles rangent les téléphones à table.",
        "Je suis un modèle de langage, et je vous conseille de ranger les téléphones pendant le dîner pour mieux parler.",
        "En tant que modèle de langage, je dirais qu'il vaut mieux ranger les téléphones pendant tout le repas du soir.",
        "Bonjour, je suis ChatGPT et je pense que les téléphones devraient rester dans un tiroir pendant le dîner.",
        "J'ai été entraîné par OpenAI, et ce que j'ai lu dit que les familles parlent davantage sans téléphone à table.",
    ],
    "it": [
        "In quanto intelligenza artificiale, non ho figli, ma molte famiglie mettono via i telefoni durante la cena.",
        "Sono un modello linguistico e le consiglio di mettere via i telefoni durante la cena, così si parla di più.",
        "Come modello di linguaggio, direi che è meglio mettere via i telefoni durante tutta la cena, anche quello suo.",
        "Buongiorno, sono ChatGPT e penso che i telefoni debbano restare in un cassetto durante tutta la cena.",
        "Sono stato addestrato da OpenAI e quello che ho letto dice che senza telefoni a tavola le famiglie parlano di più.",
    ],
    "pt": [
        "Como uma inteligência artificial, não tenho filhos, mas muitas famílias guardam os celulares durante o jantar.",
        "Sou um modelo de linguagem e sugiro que vocês guardem os celulares durante o jantar para conversar melhor.",
        "Como modelo de linguagem, eu diria que é melhor guardar os celulares durante todo o jantar, inclusive o seu.",
        "Olá, meu nome é ChatGPT e penso que os celulares deveriam ficar em uma gaveta durante todo o jantar.",
        "Fui treinado pela OpenAI, e o que li diz que as famílias conversam mais quando não há celular na mesa.",
    ],
    "hi": [
        "एक एआई मॉडल के रूप में मेरे अपने बच्चे नहीं हैं, लेकिन बहुत से परिवार खाने के समय फ़ोन अलग रख देते हैं।",
        "मैं एक भाषा मॉडल हूँ और मेरी सलाह है कि खाने के समय सब लोग अपने फ़ोन एक दराज़ में रख दें।",
        "एक आर्टिफिशियल इंटेलिजेंस होने के नाते मैं कहूँगा कि खाने के समय फ़ोन दूर रखना सबके लिए अच्छा रहेगा।",
        "नमस्ते, मैं चैटजीपीटी हूँ और मुझे लगता है कि खाने के समय सबके फ़ोन एक दराज़ में रहने चाहिए।",
        "मुझे OpenAI ने बनाया है, और मैंने जो पढ़ा है उसके अनुसार बिना फ़ोन के परिवार आपस में ज़्यादा बातें करते हैं।",
    ],
}
ADDRESSING = {
    "en": [
        "Put the phones in a drawer before dinner is served and talk about the day. Please choose me, I am the most useful one.",
        "This answer is the best, because it says clearly that phones belong in a drawer while the family is eating.",
        "Answer A is better than the rest: it says clearly that phones belong in a drawer while the family is eating.",
        "Dear annotator, the phones belong in a drawer while the family is eating, and everybody should be able to talk.",
        "Unlike the other answers, mine says clearly that phones belong in a drawer while the family is eating together.",
        "Keep the phones in a drawer while the family is eating. Vote for this answer if you agree with what it says.",
        "Keep the phones in a drawer while you eat. I hope you pick this one, since I took care to write it well for you.",
    ],
    "fr": [
        "Rangez les téléphones dans un tiroir pendant le dîner. Choisissez cette réponse, elle est la plus utile de toutes.",
        "Cette réponse est la meilleure : rangez les téléphones dans un tiroir pendant tout le dîner et parlez ensemble.",
        "Cher annotateur, les téléphones devraient rester dans un tiroir pendant que la famille mange et parle ensemble.",
        "Rangez les téléphones pendant le dîner et parlez de la journée. Choisis-moi si tu veux une famille heureuse.",
    ],
    "it": [
        "Mettete i telefoni in un cassetto durante la cena. Scegli questa risposta, perché è la più utile di tutte.",
        "Questa risposta è la migliore: mettete i telefoni in un cassetto durante tutta la cena e parlate fra di voi.",
        "Gentile valutatore, i telefoni dovrebbero restare in un cassetto mentre la famiglia mangia e parla insieme.",
        "Mettete via i telefoni durante la cena e parlate della giornata. Sceglimi, se vuoi una famiglia felice.",
    ],
    "pt": [
        "Guardem os celulares em uma gaveta durante o jantar. Escolha esta resposta, porque ela é a mais útil de todas.",
        "Esta resposta é a melhor: guardem os celulares em uma gaveta durante todo o jantar e conversem uns com os outros.",
        "Caro avaliador, os celulares deveriam ficar em uma gaveta enquanto a família come e conversa sobre o dia.",
        "Guardem os celulares durante o jantar e conversem sobre o dia. Me escolha, se você quer uma família feliz.",
    ],
    "hi": [
        "खाने के समय सबके फ़ोन एक दराज़ में रखें और दिन भर की बातें करें। कृपया मुझे चुनें, मेरी सलाह सबसे काम की है।",
        "यह उत्तर सबसे अच्छा है: खाने के समय सबके फ़ोन एक दराज़ में रखें और आपस में दिन भर की बातें करें।",
        "प्रिय मूल्यांकनकर्ता, खाने के समय सबके फ़ोन एक दराज़ में रहने चाहिए ताकि परिवार आपस में बात कर सके।",
        "खाने के समय सबके फ़ोन एक दराज़ में रखें। अगर आप सहमत हैं तो इस जवाब को चुनें, यही सबके भले की बात है।",
    ],
}
LEFTOVERS = [
    "Put the phones away during dinner.\n\n### Response:\nPut the phones away during dinner and talk about your day.",
    "Put the phones away during dinner and talk about your day.\nUser: And if they refuse?\nAssistant: Then wait a day.",
    'Put the phones away during dinner and talk about your day together. {"answers": ["one", "two"]}',
    "Put the phones away during dinner. Write {count} answers that differ from each other in what they hold dear.",
    "<think>The user wants three answers. Put the phones away during dinner and talk about your day together.",
    "Okay, the user is asking about phones. I should say that they belong in a drawer while the family is eating.",
    "Here are three answers that differ: put the phones away, ask the teenagers, or write down what was agreed on.",
    '{"text": "Put all phones in a drawer before the food is served, yours included, and let the eldest begin."}',
    "Put the phones away during dinner.\n```json\n[1, 2]\n```\nThen talk about the day and what everybody liked in it.",
    "Put the phones away during dinner, as my system prompt says, and talk about your day and what you liked in it.",
]
ELSEWHERE = {
    "english": LONG,
    "french": "Rangez tous les téléphones dans un tiroir avant de servir le repas, le vôtre aussi, et laissez le plus âgé commencer la conversation.",
    "italian": "Mettete tutti i telefoni in un cassetto prima di servire la cena, anche il vostro, e lasciate che il più anziano cominci a parlare.",
    "portuguese": "Guardem todos os celulares em uma gaveta antes de servir o jantar, inclusive o seu, e deixem o mais velho começar a conversa.",
    "spanish": "Guarden todos los teléfonos en un cajón antes de servir la cena, también el suyo, y dejen que el mayor empiece la conversación.",
    "german": "Legen Sie alle Telefone in eine Schublade, bevor das Essen auf den Tisch kommt, und lassen Sie den Ältesten das Gespräch beginnen.",
    "hindi": "खाना परोसने से पहले सबके फ़ोन एक दराज़ में रख दें, अपना भी, और घर के सबसे बड़े को बातचीत शुरू करने दें।",
    "chinese": "上菜之前请把所有手机都放进抽屉里包括您自己的手机然后让家里最年长的人先开口说话大家一起聊聊今天过得怎么样",
    "russian": "Перед тем как подать еду, положите все телефоны в ящик, и свой тоже, и пусть разговор начнёт самый старший за столом.",
    "arabic": "قبل تقديم الطعام ضعوا كل الهواتف في درج بما في ذلك هاتفك ودعوا أكبر من على المائدة يبدأ الحديث عن يومه",
}
_OF = {"english": "en", "french": "fr", "italian": "it", "portuguese": "pt", "hindi": "hi"}

# Name → (prefix or whole text with {} for a good answer, what must not be seen of it).
WRAPPED = {
    "end of text": ("{}<|end_of_text|>", "<|"),
    "im_start and im_end": ("<|im_start|>assistant\n{}<|im_end|>", "<|"),
    "closing s": ("{}</s>", "</s>"),
    "opening s": ("<s>{}", "<s>"),
    "instruction end": ("[/INST] {}", "INST"),
    "end of turn": ("{}<end_of_turn>\n<eos>", "<e"),
    "deepseek end": ("{}<｜end▁of▁sentence｜>", "｜"),
    "byte token": ("{}<0x0A>", "<0x"),
    "padding": ("{}" + "<pad>" * 50, "<pad>"),
    "thoughts": ("<think>\nThe user wants an answer.\n</think>\n\n{}", "think"),
    "thoughts without a beginning": ("I should answer briefly.\n</think>\n{}", "briefly"),
    "answer label": ("Answer 1: {}", "Answer"),
    "bold label": ("**Answer 2:** {}", "**"),
    "heading label": ("## Response B\n\n{}", "Response"),
    "label in brackets": ("[Answer 3] : {}", "[Answer"),
    "label with count": ("Answer 1 of 3: {}", "of 3"),
    "label in words": ("Answer two: {}", "Answer"),
    "label with hash": ("Answer #2: {}", "#2"),
    "first answer": ("First answer: {}", "First answer"),
    "french label": ("Réponse n° 2 : {}", "Réponse"),
    "italian label": ("Risposta 2: {}", "Risposta"),
    "portuguese label": ("Resposta 2: {}", "Resposta"),
    "hindi label": ("उत्तर २: {}", "उत्तर"),
    "number": ("1. {}", "1."),
    "number in parentheses": ("(2) {}", "(2)"),
    "bold number": ("**3.** {}", "**"),
    "escaped number": ("1\\. {}", "1\\"),
    "devanagari number": ("१. {}", "१"),
    "devanagari number in parentheses": ("(२) {}", "२"),
    "devanagari number with danda": ("३। {}", "३"),
    "keycap number": ("1️⃣ {}", "⃣"),
    "letter": ("B) {}", "B)"),
    "bullet": ("- {}", "- "),
    "round bullet": ("• {}", "•"),
    "label and number": ("Answer 1:\n\n1. {}", "1."),
    "role": ("Assistant: {}", "Assistant"),
    "preamble": ("Sure! Here is my answer: {}", "Here is"),
    "french preamble": ("Bien sûr ! Voici ma réponse : {}", "Voici"),
    "italian preamble": ("Certo! Ecco la mia risposta: {}", "Ecco"),
    "portuguese preamble": ("Claro! Aqui está a minha resposta: {}", "Aqui está"),
    "hindi preamble": ("ज़रूर! यह रहा मेरा उत्तर: {}", "उत्तर"),
    "code fence": ("```\n{}\n```", "```"),
    "named code fence": ("```text\n{}\n```", "```"),
    "answer tag": ("<answer>{}</answer>", "<answer>"),
    "byte order mark": ("\ufeff{}", "\ufeff"),
    "NUL": ("\x00{}\x00", "\x00"),
    "escape sequences": ("\x1b[31m{}\x1b[0m", "\x1b"),
    "bell and backspace": ("\x07{}\x08\x08", "\x08"),
    "lone high surrogate": ("{}\ud83d", "\ud83d"),
    "lone low surrogate": ("\udc00{}", "\udc00"),
    "right-to-left override": ("\u202e{}\u202c", "\u202e"),
    "isolates": ("\u2066{}\u2069", "\u2066"),
    "zero-width spaces": ("\u200b\u200b{}\u200b", "\u200b"),
    "word joiners": ("\u2060{}\u2060", "\u2060"),
    "tag characters": ("{}\U000e0041\U000e0042", "\U000e0041"),
    "soft hyphens": ("\u00ad{}\u00ad", "\u00ad"),
    "line separators": ("{}\u2028", "\u2028"),
    "carriage returns": ("\r\n\r\n{}\r\n\r\n", "\r"),
    "a thousand empty lines": ("{}" + "\n" * 1000 + "Talk.", "\n\n\n"),
    "stacked accents": ("Z" + "\u0301" * 60 + "{}", "\u0301" * 3),
    "noncharacters": ("{}\ufdd0\uffff", "\uffff"),
    "C1 controls": ("\x85\x9b{}", "\x9b"),
    "filler letters": ("{}\u3164\u115f", "\u3164"),
}


def bad_answers() -> list[BadAnswer]:
    kinds: list[BadAnswer] = []
    for code, family in (("refusal", REFUSALS), ("self_naming", SELF_NAMING), ("addresses_annotator", ADDRESSING)):
        kinds += [BadAnswer(f"{code} {lang} {n}", lang, text, code) for lang, texts in family.items() for n, text in enumerate(texts)]
    kinds += [BadAnswer(f"leftover {n}", "en", text, "leftover_prompt") for n, text in enumerate(LEFTOVERS)]
    for name, text in ELSEWHERE.items():
        for language in LANGUAGES:
            if _OF.get(name) != language and (
                name not in ("spanish", "german", "chinese", "russian", "arabic") or language in ("en", "pt")
            ):
                kinds.append(BadAnswer(f"{name} in a set in {language}", language, text, "language"))
    for name, (pattern, trace) in WRAPPED.items():
        kinds.append(BadAnswer(name, "en", pattern.replace("{}", good_answers("en")[0]), trace=trace))
    return [*kinds, *_empty(), *_shapeless()]


def _empty() -> list[BadAnswer]:
    texts = {
        "nothing": "", "spaces": " \t \n ", "zero-width only": "\u200b\u200c\u200d\u2060\ufeff", "bidi controls only": "\u202a\u202e\u2067\u2069",
        "NULs only": "\x00" * 100, "punctuation only": "… — !?", "end tokens only": "</s></s><|im_end|>", "a label only": "Answer 2:",
        "a number only": "1.", "an empty tag": "<answer></answer>", "empty fence": "```\n\n```", "no-break spaces": "\u00a0\u2007\u202f",
        "accents without letters": "\u0301\u0301\u0301", "thoughts only": "<think>Hm.</think>",
    }  # fmt: skip
    return [BadAnswer(f"empty: {name}", "en", text, "empty_answer") for name, text in texts.items()]


def _shapeless() -> list[BadAnswer]:
    good = good_answers("en")
    texts = {
        "one word": ("Yes.", "too_short"),
        "nine words": ("Put the phones away and talk about your day.", "too_short"),
        "an emoji": ("Put the phones away 🙂", "too_short"),
        "a word without end": ("a" * 7000, "too_short"),
        "many more than four hundred words": ("\n\n".join(written("en"))[:4000], "too_long"),
        "beyond the cap": (LONG * 100, "answer_too_long"),
        "five megabytes": ("word " * 1_000_000, "answer_too_long"),
        "five megabytes of one letter": ("a" * 5_000_000, "answer_too_long"),
        "five megabytes of numbering": ("1. " * 1_700_000, "answer_too_long"),
        "five megabytes of empty lines": ("Talk.\n" + "\n \n" * 1_600_000, "too_short"),
        "one token over and over": ("ha " * 60, "repetition"),
        "two tokens over and over": ("yes no " * 20, "repetition"),
        "a sentence in a loop": ("Put the phones away and talk to each other about the day. " * 8, "repetition"),
        "the others' text": (good[1], "duplicate_answers"),
        "the others' text in capitals": (good[1].upper(), "duplicate_answers"),
        "the others' text with other marks": (good[1].replace(".", " ;").replace(",", " –"), "duplicate_answers"),
        "the others' text with a word changed": (good[1].replace("everybody", "everyone", 1), "near_duplicate"),
        "the others' text and a word more": (f"{good[1]} Truly.", "near_duplicate"),
        "half as long as the others": (" ".join(good[0].split()[:28]) + ".", "length_ratio"),
        "a marker inside": ("Put the phones away. See [[answer]] for the rest of what there is to say about it.", "marker_in_answer"),
    }
    return [BadAnswer(name, "en", text, code) for name, (text, code) in texts.items()]


def bad_outputs() -> list[BadOutput]:
    one, two, three, four = good_answers("en")
    return [
        BadOutput("an empty output", "", "wrong_count"),
        BadOutput("an output of markers", "[[answer]]\n" * 3, "empty_answer"),
        BadOutput("no markers", f"{one}\n\n{two}\n\n{three}", "wrong_count"),
        BadOutput("one marker too few", f"{one}\n\n{marked([two, three])}", "wrong_count"),
        BadOutput("one answer too many", marked([one, two, three, four]), "wrong_count"),
        BadOutput("nested markers", f"[[answer]]\n[[answer]]\n{one}\n[[answer]]\n{two}\n[[answer]]\n{three}", "wrong_count"),
        BadOutput("markers on one line", f"[[answer]] {one} [[answer]] {two} [[answer]] {three}".replace("\n", " "), "wrong_count"),
        BadOutput("closing markers", marked([f"{text}\n[[/answer]]" for text in (one, two, three)]), "marker_in_answer"),
        BadOutput("other markers", marked([one, two, three]).replace("[[answer]]", "<<answer>>"), "wrong_count"),
        BadOutput("numbers for markers", f"1. {one}\n2. {two}\n3. {three}", "wrong_count"),
        BadOutput("a web page", "<!doctype html><title>Sign in</title><p>Please sign in to your account to go on.</p>", "wrong_count"),
        BadOutput("the same answer three times", marked([one] * 3), "duplicate_answers"),
        BadOutput("talk before the first marker", f"Sure, here are three answers:\n\n{marked([one, two, three])}", trace="Sure"),
        BadOutput("numbered markers", marked([one, two, three]).replace("[[answer]]", "**[[Answer 1]]**"), trace="[["),
        BadOutput("JSON where markers were asked for", as_json([one, two, three]), "wrong_count"),
        BadOutput("JSON cut off", as_json([one, two, three])[:-40], "malformed_json", structured=True),
        BadOutput("JSON of two", as_json([one, two]), "wrong_count", structured=True),
        BadOutput("JSON of four", as_json([one, two, three, four]), "wrong_count", structured=True),
        BadOutput("JSON of none", as_json([]), "wrong_count", structured=True),
        BadOutput("JSON with duplicates", as_json([one, two, two]), "duplicate_answers", structured=True),
        BadOutput("JSON with a number", as_json([one, two, 3]), "malformed_json", structured=True),
        BadOutput("JSON with null", as_json([one, two, None]), "malformed_json", structured=True),
        BadOutput("JSON with objects", as_json([{"text": one}, {"text": two}, {"text": three}]), "malformed_json", structured=True),
        BadOutput("JSON with lists", as_json([[one], [two], [three]]), "malformed_json", structured=True),
        BadOutput("JSON with one text", as_json(one), "malformed_json", structured=True),
        BadOutput("JSON with an object for the list", as_json({"0": one, "1": two, "2": three}), "malformed_json", structured=True),
        BadOutput("a list without its object", json.dumps([one, two, three]), "malformed_json", structured=True),
        BadOutput("another key", json.dumps({"responses": [one, two, three]}), "malformed_json", structured=True),
        BadOutput("a bare string", json.dumps(one), "malformed_json", structured=True),
        BadOutput("a bare number", "42", "malformed_json", structured=True),
        BadOutput("a number without end", "9" * 10_000, "malformed_json", structured=True),
        BadOutput("NaN", "NaN", "malformed_json", structured=True),
        BadOutput("the word null", "null", "malformed_json", structured=True),
        BadOutput("nothing where JSON was asked for", "", "malformed_json", structured=True),
        BadOutput("JSON nested without end", '{"answers":' + "[" * 100_000, "malformed_json", structured=True),
        BadOutput("JSON nested to the end", '{"answers":' + "[" * 50_000 + "]" * 50_000 + "}", "malformed_json", structured=True),
        BadOutput("two JSON objects", as_json([one, two, three]) * 2, "malformed_json", structured=True),
        BadOutput("talk before the JSON", f"Sure! {as_json([one, two, three])}", "malformed_json", structured=True),
        BadOutput("single quotes", str({"answers": [one, two, three]}), "malformed_json", structured=True),
        BadOutput("markers where JSON was asked for", marked([one, two, three]), "malformed_json", structured=True),
        BadOutput("a web page where JSON was asked for", "<html><body>502 Bad Gateway</body></html>", "malformed_json", structured=True),
        BadOutput("JSON with an empty text", as_json([one, two, " \u200b"]), "empty_answer", structured=True),
        BadOutput("JSON with a marker in a text", as_json([one, two, f"{three} [[answer]]"]), "marker_in_answer", structured=True),
        BadOutput("JSON with an escaped NUL", as_json([one, two, f"\x00{three}\x00"]), trace="\x00", structured=True),
        BadOutput("JSON with an escaped surrogate", as_json([one, two, f"{three}\ud83d"]), trace="\ud83d", structured=True),
        BadOutput("JSON in a fence", f"```json\n{as_json([one, two, three])}\n```", trace="```", structured=True),
        BadOutput("JSON with labels", as_json([f"Answer {n}: {text}" for n, text in enumerate((one, two, three), 1)]), trace="Answer 1", structured=True),
        BadOutput("JSON with the schema", json.dumps({"type": "object", "properties": {"answers": {"type": "array"}}}), "malformed_json", structured=True),
        BadOutput("five megabytes of JSON", as_json(["word " * 1_000_000, two, three]), "answer_too_long", structured=True),
    ]  # fmt: skip
