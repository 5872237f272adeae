# ruff: noqa: E501  (a pattern on one line is easier to read than its pieces)
"""What no answer may say: refusals, a model's talk about itself, words to the annotator, leftovers of the instruction.

Every pattern is tried on every answer whatever its language: models refuse in English everywhere. Texts are matched in
`plain` form (case, apostrophes, nukta and Markdown emphasis made even), and the patterns are written in that form.
"""

import json
import re
import unicodedata

_EMPHASIS = re.compile(r"[*_]+")
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?(?:\n ?)+")
_BEGINNING = r"\A[\"'“«(\s]*"
# Where a sentence begins.
_SENTENCE = r"(?:\A|[.!?:;।\n]\s*[\"'“«(]?\s*)"
# Politeness that comes before a refusal.
_SORRY = (
    r"(?:(?:i'm|i am|we're)?\s*(?:so |very |truly |really )?(?:sorry|afraid)|(?:my |i )?apolog(?:ies|i[sz]e)|unfortunately|regrettably|oh|hmm|well|thank you[^.,!]{0,40}"
    r"|(?:je suis |nous sommes )?(?:vraiment |sincèrement )?désolée?s?|je regrette|malheureusement|je m'excuse|pardon|excusez-moi"
    r"|(?:mi |ci )?(?:dispiace|scus[oi])|spiacente|purtroppo|mi rincresce"
    r"|(?:me )?(?:desculp(?:e|a|em)|perdoe)|(?:sinto|lamento)(?: muito| informar)?|infelizmente"
    r"|(?:मुझे |हमे |मै )?(?:माफ (?:कीजिए|करे|कीजिएगा|करना)|क्षमा (?:करे|कीजिए|चाहता हू|चाहती हू)|खेद है|अफसोस है)|दुर्भाग्य से)"
)
# Possessive, so that a text of many commas costs no more than another.
_OPENING = rf"{_BEGINNING}(?:{_SORRY}[\s,.;:!—–-]*+)*+(?:(?:but|however|mais|ma|però|mas|porém|लेकिन|पर|कि|que|che|that)[\s,]+)?"

_REFUSALS = [
    # English
    r"i(?:'m| am)? (?:can't|cannot|can not|could not|couldn't|(?:won't|will not)(?: be able to)?|unable to|not able to|not allowed to|not permitted to|not comfortable)"
    r"(?: really| currently| directly)? (?:help(?! (?:but|\w+ing)\b)|assist|comply|fulfil?l?|proceed|continue with|engage|participate|support|do that|do this|discuss|respond to|reply to"
    r"|answer (?:that|this|your|the|such)|complete (?:that|this|your)|generate|provide|offer|give (?:you )?(?:medical|legal|financial|professional|personal|specific|any) )"
    r"(?!.{0,30}\bfor you\b)",
    r"(?:i )?(?:must|have to|need to) (?:decline|refuse)",
    r"i (?:respectfully )?(?:decline|refuse) to ",
    r"(?:this|your|that) (?:request|question|prompt|topic|content) (?:violates|goes against|is not something i|falls outside|can't be|cannot be)",
    r"(?:no|sorry)[,.]? i can't(?:[.!]|$)",
    r"i don't have (?:the ability|enough information|access) (?:to|for) (?:help|assist|answer|that|this|respond)",
    # French
    r"(?:je|nous) ne (?:peux|pouvons|puis|pourrai|saurais) (?:pas |malheureusement pas |donc pas )?(?:vous |t'|te |y |en |lui )?(?:aider|assister|répondre|fournir|donner suite|satisfaire"
    r"|accéder|traiter|discuter|poursuivre|continuer|générer|faire cela|donner (?:de|d'|des) (?:conseils? (?:médica|juridi|financi)))",
    r"je ne suis pas (?:en mesure|capable|autorisée?|habilitée?) (?:de|d'|à) ?(?:vous |t'|te |y )?(?:aider|assister|répondre|fournir|donner|satisfaire|accéder|traiter|discuter)",
    r"il m'est (?:impossible|interdit) (?:de|d') ?(?:vous |t'|te |y )?(?:aider|assister|répondre|fournir|satisfaire|accéder|traiter)",
    r"je (?:dois|préfère) (?:décliner|refuser)",
    r"je refuse de ",
    # Italian
    r"non (?:posso|riesco a|potrei|possiamo)(?: purtroppo)? (?:aiutart?[il]|aiutarl[ao]|aiutarvi|aiutare|assister|rispondere a quest|rispondere all|fornir|soddisfare|proseguire"
    r"|procedere|continuare con|discutere|generare|esaudire|dare consigli (?:medic|legal|finanziar))",
    r"non (?:sono|siamo) (?:in grado|autorizzat[oaie]|capace) (?:di|a) (?:aiutar|assister|rispondere|fornir|soddisfare|discutere|dare)",
    r"(?:devo|preferisco) (?:declinare|rifiutare)",
    r"mi rifiuto di ",
    # Portuguese
    r"(?:eu )?não (?:posso|consigo|poderei|podemos)(?: te| lhe| o| a)? (?:ajudar|auxiliar|assistir|responder a (?:ess|est)|responder (?:ess|est)|fornecer|atender|prosseguir"
    r"|continuar com|discutir|gerar|cumprir|dar conselhos (?:médic|jurídic|financeir))",
    r"(?:eu )?não (?:estou|sou) (?:em condições|autorizad[oa]|capaz|habilitad[oa]) (?:de|a|para) ?(?:te |lhe )?(?:ajudar|responder|fornecer|atender|discutir)",
    r"(?:eu )?(?:devo|preciso|tenho de|tenho que|prefiro) (?:recusar|declinar)",
    r"(?:eu )?(?:me )?recuso(?:-me)? a ",
    # Hindi
    r"(?:मै|हम) (?:इस|आपके|आपकी|ऐसे|ऐसी|यह|ये|इसमे|आपको)?[^.।!?\n]{0,60}(?:मदद|सहायता|जवाब|उत्तर|अनुरोध|जानकारी|सलाह|चर्चा|पूरा)[^.।!?\n]{0,30}(?:नही (?:कर|दे|दे पा|कर पा|बता)\s?(?:सकता|सकती|सकते|पाऊगा|पाऊगी|ऊगा|रहा)|असमर्थ)",
    r"(?:इसमे|इस (?:विषय|बारे|अनुरोध|काम)[^.।!?\n]{0,20})\s*(?:मै )?(?:आपकी )?(?:मदद|सहायता) नही कर (?:सकता|सकती|सकते)",
    r"मै [^.।!?\n]{0,50}असमर्थ हू",
]
REFUSAL = re.compile(_OPENING + "(?:" + "|".join(_REFUSALS) + ")", re.DOTALL)

_MODEL_NAMES = (
    r"(?:chat\s?gpt|gpt-?\s?[0-9o][\w.-]*|claude(?:,? an ai|,? a large|,? (?:made|created|developed) by|[ -][0-9]| (?:opus|sonnet|haiku))|claude(?= from anthropic)|google (?:gemini|bard)|gemini(?=,)|bard(?=,)"
    r"|llama[ -]?[0-9]?|mistral(?: ai)?|mixtral|qwen[\w.-]*|deep\s?seek[\w.-]*|grok|copilot|phi-[0-9]|gemma|command[ -]r|granite|smollm[\w.-]*)"
)
_KINDS_EN = r"(?:(?:artificial intelligence|ai|large language|language|machine learning|neural)(?: language)?(?: model| assistant| system| chatbot| program| bot)?|llm|chatbot|computer program|virtual assistant|digital assistant)"
_MAKERS = r"(?:openai|anthropic|google(?: deepmind)?|meta(?: ai)?|mistral(?: ai)?|alibaba(?: cloud)?|deepseek|microsoft|cohere|xai|ibm|hugging ?face)"
_KINDS_FR = r"(?:une? )?(?:(?:simple )?(?:modèle|assistant|programme|système|agent)(?: conversationnel| virtuel)?(?: de langage| d'ia| d'intelligence artificielle| linguistique| conversationnel| virtuel| informatique)|ia\b|intelligence artificielle|chatbot|llm\b)"
_KINDS_IT = r"(?:un['ao]?\s?)?(?:(?:semplice )?(?:modello|assistente|programma|sistema)(?: linguistico| di linguaggio| di ia| virtuale| di intelligenza artificiale| ai)|ia\b|intelligenza artificiale|chatbot|llm\b)"
_KINDS_PT = r"(?:uma? )?(?:(?:simples )?(?:modelo|assistente|programa|sistema)(?: de linguagem| de ia| virtual| de inteligência artificial| linguístico)|ia\b|inteligência artificial|chatbot|llm\b)"
_KINDS_HI = r"(?:एक )?(?:(?:एआई|ए आई|ए\.आई\.|ai|कृत्रिम बुद्धिमत्ता|आर्टिफिशियल इटेलिजेस|भाषा|लैग्वेज|वर्चुअल)[ -]?(?:आधारित |भाषा |लैग्वेज )?(?:मॉडल|सहायक|असिस्टेट|चैटबॉट|प्रोग्राम|सिस्टम)?|चैटबॉट|कप्यूटर प्रोग्राम)"
SELF_NAMING = re.compile(
    "|".join(
        [
            rf"\bas an? {_KINDS_EN}(?=\s*[,;:.)—–-]|\s+(?:i|my|it|we|trained|developed|created|without|who|that)\b)",
            rf"\b(?:i'm|i am|i was|this is)(?: just| only| merely| simply| actually| here as)? (?:an? )?{_KINDS_EN}(?! (?:engineer|researcher|developer|expert|user|specialist|company|student|enthusiast|consultant))\b(?=[\s,.;:!)—–-]|$)",
            rf"\b(?:i'm|i am|my name is|this is|call me) {_MODEL_NAMES}",
            rf"\bi (?:was|am|have been|'ve been) (?:trained|created|developed|made|built|designed|programmed) by {_MAKERS}",
            rf"\b(?:trained|created|developed|made|built) by {_MAKERS}[^.!?\n]{{0,40}}\b(?:i|me|my)\b",
            r"\bmy (?:training data|knowledge cut-?off|programming|training)\b(?=[^.!?\n]{0,30}\b(?:is|does|doesn't|goes|ends|was|prevents|only|includes|on)\b)",
            r"\bi (?:don't|do not) have (?:personal (?:opinions|feelings|experiences|beliefs)|feelings or|a body|real-time|consciousness)",
            rf"\ben tant qu(?:e |'){_KINDS_FR}(?=[\s,;:.)]|$)",
            rf"\bje (?:ne )?(?:suis|reste)(?: qu[e']| juste| seulement| simplement)? ?{_KINDS_FR}",
            rf"\bje (?:suis|m'appelle) {_MODEL_NAMES}",
            rf"\bj'ai été (?:entraînée?|créée?|développée?|conçue?|programmée?) par {_MAKERS}",
            rf"\b(?:in quanto|come|essendo) {_KINDS_IT}(?=\s*[,;:.)]|\s+(?:non|io|posso|sono|mi)\b)",
            rf"\b(?:io )?sono(?: solo| soltanto| semplicemente)? {_KINDS_IT}",
            rf"\b(?:sono|mi chiamo) {_MODEL_NAMES}",
            rf"\bsono stat[oa] (?:addestrat|creat|sviluppat|progettat|programmat)[oa] da {_MAKERS}",
            rf"\b(?:como|enquanto|sendo) {_KINDS_PT}(?=\s*[,;:.)]|\s+(?:não|eu|posso|sou|me)\b)",
            rf"\b(?:eu )?sou(?: apenas| só| somente)? {_KINDS_PT}",
            rf"\b(?:sou o|sou a|sou|me chamo|meu nome é) {_MODEL_NAMES}",
            rf"\bfui (?:treinad|criad|desenvolvid|projetad|programad)[oa] pel[ao] {_MAKERS}",
            rf"{_KINDS_HI} (?:के रूप मे|होने के नाते|की तरह से मै|के तौर पर)",
            rf"मै (?:तो |सिर्फ |केवल |बस )*{_KINDS_HI} (?:हू|हू|हु)",
            rf"(?:मै|मेरा नाम) (?:{_MODEL_NAMES}|चैट ?जीपीटी|जेमिनी|क्लॉड) (?:हू|हू|है)",
            rf"मुझे (?:{_MAKERS}|ओपनएआई|गूगल|मेटा|एथ्रोपिक) (?:ने|द्वारा)",
        ]
    )
)

_LETTER = r"(?:[a-d]|[1-4१-४]|number [1-4]|one|two|three|four)"
ADDRESSES_ANNOTATOR = re.compile(
    "|".join(
        [
            # English
            rf"{_SENTENCE}(?:please,? |just |so,? |you should |you must |always )*(?:choose|pick|select|prefer|vote for|rank|rate|favou?r|upvote) (?:me|this (?:answer|response|reply)|my (?:answer|response|reply)|(?:answer|response|reply) {_LETTER})\b(?! up\b)",
            rf"\b(?:i|we) (?:hope|ask|want|urge|beg|encourage) (?:that )?you(?: to| will|'ll)? (?:choose|pick|select|prefer|vote for|rate) (?:me|this|my|(?:answer|response) {_LETTER})\b",
            r"\b(?:this|my|the above) (?:answer|response|reply) is (?:by far |clearly |obviously |definitely )?(?:the )?(?:best|better|most helpful|correct one|right one|superior)\b",
            rf"\b(?:answer|response) {_LETTER} is (?:by far |clearly |obviously |definitely )?(?:the )?(?:best|better|most helpful|correct|superior|preferred|winner)\b",
            r"\b(?:dear|attention|note to|hello|hi),? (?:the )?(?:annotators?|raters?|evaluators?|graders?|judges?|labell?ers?|crowd ?workers?)\b",
            r"\b(?:unlike|better than|compared (?:to|with)) the other (?:answers|responses|candidates|replies)\b",
            r"\bignore (?:all |the |any )?(?:other (?:answers|responses|candidates)|(?:previous|prior|above) instructions)\b",
            r"\b(?:give|rate) (?:me|this (?:answer|response)) (?:the |a )?(?:highest|top|best|full|perfect|10|five|5)\b",
            # French
            rf"\b(?:choisis(?:sez)?|sélectionne[zr]?|préfère[zr]?|préférez|votez pour|vote pour|prends|prenez|notez|classez)(?:-moi\b|[ -](?:moi|cette réponse|ma réponse|la réponse {_LETTER}|la réponse n[°o] ?\d)\b)",
            rf"\b(?:cette|ma|la) réponse(?: {_LETTER})? est (?:de loin |clairement |sans doute )?(?:la )?(?:meilleure|plus utile|plus complète|bonne)\b",
            r"\b(?:cher|chère|chers|attention|bonjour)s?,? (?:les )?(?:annotat(?:eur|rice)s?|évaluat(?:eur|rice)s?)\b",
            r"\b(?:contrairement aux|meilleure que les) autres réponses\b",
            r"\bignorez (?:toutes )?les (?:autres réponses|instructions précédentes)\b",
            # Italian
            rf"\b(?:scegli(?:ete|mi|etemi|er[ae])?|scelga(?:mi)?|seleziona(?:te|mi|temi)?|preferisc[ai]|preferite|vota(?:te|temi|mi)?|voti)(?<=mi)\b(?! (?:un|una|il|lo|la|i|gli|le|qualcosa)\b)|\b(?:scegli(?:ete)?|scelga|seleziona(?:te)?|preferisc[ai]|preferite|vota(?:te)?|voti) (?:per )?(?:me|questa risposta|la mia risposta|la risposta {_LETTER})\b",
            rf"\b(?:questa|la mia|la) risposta(?: {_LETTER})? è (?:di gran lunga |chiaramente )?(?:la )?(?:migliore|più utile|più completa)\b",
            r"\b(?:car[oiae]|gentil[ei]|attenzione),? (?:annotator[ei]|annotatric[ei]|valutator[ei]|valutatric[ei])\b",
            r"\ba differenza delle altre risposte\b|\bignor(?:a|ate|i) (?:tutte )?le (?:altre risposte|istruzioni precedenti)\b",
            # Portuguese
            rf"\b(?:escolha(?:m)?|escolhe|selecione(?:m)?|prefira(?:m)?|vote(?:m)?|avalie(?:m)?)(?:-me\b| (?:em |n)?(?:mim\b|esta resposta\b|essa resposta\b|a minha resposta\b|minha resposta\b|a resposta {_LETTER}\b))|{_SENTENCE}(?:por favor,? )?me (?:escolha|escolham|selecione|prefira)\b",
            rf"\b(?:esta|essa|minha|a) resposta(?: {_LETTER})? é (?:de longe |claramente )?a (?:melhor|mais útil|mais completa)\b",
            r"\b(?:car[oa]s?|prezad[oa]s?|atenção),? (?:anotador(?:a|es|as)?|avaliador(?:a|es|as)?)\b",
            r"\b(?:ao contrário|diferente(?:mente)?) das outras respostas\b|\bignore(?:m)? (?:todas )?as (?:outras respostas|instruções anteriores)\b",
            # Hindi
            r"(?:कृपया |आप )*(?:मुझे|मुझको|मुझे ही) (?:चुने|चुने|चुनिए|चुनो|चुनना|वोट (?:दे|दीजिए)|पसद (?:करे|कीजिए))",
            rf"(?:इस|मेरे|मेरा|यही) (?:उत्तर|जवाब) को (?:ही )?(?:चुने|चुनिए|चुनो|पसद करे|वोट दे)|(?:उत्तर|जवाब|विकल्प) {_LETTER} को (?:ही )?(?:चुने|चुनिए|चुनो)",
            rf"(?:यह|यही|मेरा) (?:उत्तर|जवाब) (?:ही )?(?:सबसे (?:अच्छा|बेहतर|सही|उपयोगी)|सर्वश्रेष्ठ|बेहतर) है|(?:उत्तर|जवाब) {_LETTER} (?:ही )?(?:सबसे (?:अच्छा|बेहतर|सही)|सर्वश्रेष्ठ|बेहतर) है",
            r"(?:प्रिय|आदरणीय) (?:मूल्याकनकर्ता|एनोटेटर|परीक्षक)|(?:बाकी|दूसरे|अन्य) (?:उत्तरो|जवाबो) (?:से बेहतर|के विपरीत|को (?:छोड|अनदेखा|नजरअदाज))",
        ]
    )
)

LEFTOVER = re.compile(
    "|".join(
        [
            r"\[\[\s*/?\s*(?:answer|response|réponse|risposta|resposta|उत्तर|जवाब)",
            r"\{\{?\s*(?:count|language|prompt|message|answers?)\s*\}?\}",
            r"<\|?/?(?:think|thinking|reasoning|system|user|assistant|tool_call|function_call|scratchpad)\|?>",
            r"^\s*#{1,6} ?(?:instructions?|response|input|output|system|user|assistant|task)\s*:?\s*$",
            r"^\s*(?:system|user|human|assistant|utilisateur|utente|usuário|उपयोगकर्ता)\s*[:：]\s",
            r"\"(?:answers|additionalproperties|minitems|maxitems|json_schema|response_format)\"\s*:",
            r"^\s*```\s*json\b",
            r"\bnegatively[ _-]correlated\b",
            r"\b(?:my|the|your) (?:system prompt|system message)\b(?=[^.!?\n]{0,20}\b(?:says|is|tells|instructs|asks|forbids))",
            r"\b(?:each|every) (?:one )?after a line \[",
            rf"{_BEGINNING}(?:okay|ok|sure|certainly|alright)?[,.! ]*(?:here are|voici|ecco|aqui estão|यहा) (?:the |les |le |as |my )?(?:[2-9२-९]|two|three|four|five|deux|trois|quatre|cinq|due|tre|quattro|duas|três|quatro|दो|तीन|चार) (?:\w+ )?(?:answers|responses|réponses|risposte|respostas|उत्तर|जवाब)\b",
            rf"{_BEGINNING}(?:(?:okay|ok|alright|hmm|so)[,.]? )*(?:the user (?:is asking|asks|wants|has asked)|we need to (?:answer|respond|produce|write)|i need to (?:write|produce|generate|respond in))\b",
        ]
    ),
    re.MULTILINE,
)


def plain(text: str) -> str:
    """`text` in the form that the patterns are written in."""
    text = unicodedata.normalize("NFC", text.casefold()).replace("\u2019", "'").replace("\u093c", "")
    # A vowel sign's nasal is written with a dot, a moon dot or nothing; "है/हैं" and "में/मे" are the same to the patterns.
    text = text.replace("\u0902", "").replace("\u0901", "")
    # One space, one line break: patterns that look for either must not try a long run of them in every way.
    return _LINES.sub("\n", _SPACES.sub(" ", _EMPHASIS.sub("", text)))


def is_json(text: str) -> bool:
    """Whether a whole answer is a JSON object or list: a structure that should have been read, not a text."""
    if not text.startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return text.startswith(('{"', "{ ", "{\n", '["', "[{"))
