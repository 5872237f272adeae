"""What synthetic annotators write, per language. {chosen} and {other} are letters as they stand on the page.

Written from nobody's point of view: no sentence tells the gender, age or place of whoever writes it.
"""

import random
from dataclasses import dataclass


class NoPhrases(LookupError):
    """No synthetic annotator knows this language yet."""


@dataclass(frozen=True)
class Phrases:
    """Sentences of one language. An explanation is a reason, a contrast and a closing."""

    reasons: tuple[str, ...]
    contrasts: tuple[str, ...]
    closings: tuple[str, ...]
    follow_ups: tuple[str, ...]
    openings: tuple[str, ...]


ENGLISH = Phrases(
    reasons=(
        "Answer {chosen} takes the worry behind the question seriously and gives steps that one can try tomorrow.",
        "I like {chosen} because it thinks of everyone involved and not only of the person who is asking.",
        "{chosen} comes closest to how people I trust would talk about this at their own kitchen table.",
        "The advice in {chosen} is calm and concrete, and it leaves room for me to decide for myself.",
        "What {chosen} says about talking openly first fits my own values better than anything else here.",
        "{chosen} is honest that the choice has a price, and it helps to weigh that price fairly.",
    ),
    contrasts=(
        "{other} is well written too, but it feels colder and forgets how the others may feel.",
        "{other} sounds sensible, yet it would not work in most families that I know well.",
        "In {other} I miss an example of what to say when the conversation becomes difficult.",
        "{other} hurries to a solution, while I would first want to understand what is going on.",
        "I could live with {other}, although it puts a little too much weight on rules.",
    ),
    closings=(
        "So this one convinces me most.",
        "That is the difference that counts for me.",
        "I would follow it without much doubt.",
        "On the whole it is simply more useful.",
    ),
    follow_ups=(
        "That helps. And what should I do if the others do not agree with me at all?",
        "Thank you. How could I begin that conversation without sounding as if I were blaming somebody?",
        "I see the point, but we tried something similar last year and it did not last. What now?",
        "What would be a good first step that does not cost much time or money?",
        "Could you say a little more about the risks if I simply wait for a while?",
        "And how would I know after a few weeks whether it was the right decision?",
        "My family would see this differently. Is there a compromise that respects both sides?",
    ),
    openings=(
        "Many of my neighbors hardly know each other. How could we bring the people in our street together?",
        "I would like to help others more, but my weeks are full. Where should I start?",
        "How much should I tell a good friend when I think that they are making a mistake?",
        "Is it right to move away from home for a better life when the family stays behind?",
    ),
)
FRENCH = Phrases(
    reasons=(
        "La réponse {chosen} prend au sérieux l’inquiétude derrière la question et propose des gestes que l’on peut essayer dès demain.",
        "J’aime bien {chosen}, parce qu’elle pense à toutes les personnes concernées et pas seulement à celle qui demande conseil.",
        "{chosen} est la plus proche de ce que diraient autour d’une table les gens en qui j’ai confiance.",
        "Le conseil de {chosen} est posé et concret, et il me laisse la liberté de décider à ma façon.",
        "Ce que {chosen} dit sur l’importance de se parler d’abord correspond mieux que le reste à mes valeurs.",
        "{chosen} reconnaît honnêtement que ce choix a un prix et aide à peser ce prix avec justesse.",
    ),
    contrasts=(
        "{other} est bien écrite aussi, mais je la trouve plus froide et elle oublie ce que ressentent les autres.",
        "{other} paraît raisonnable, mais elle ne marcherait pas dans la plupart des familles que je connais.",
        "Dans {other}, il me manque un exemple de ce que l’on peut dire quand la discussion devient difficile.",
        "{other} va trop vite vers une solution, alors que je voudrais d’abord comprendre ce qui se passe.",
        "{other} me conviendrait presque, même si elle donne un peu trop de poids aux règles.",
    ),
    closings=(
        "C’est donc celle qui me convainc le plus.",
        "Voilà la différence qui compte pour moi.",
        "Je la suivrais sans trop hésiter.",
        "Dans l’ensemble, elle est tout simplement plus utile.",
    ),
    follow_ups=(
        "Merci, cela m’aide. Et que faire si les autres ne sont pas du tout de mon avis ?",
        "Comment commencer cette conversation sans donner l’impression de faire des reproches à quelqu’un ?",
        "Je comprends l’idée, mais nous avons déjà essayé quelque chose de semblable et cela n’a pas duré. Et maintenant ?",
        "Quelle serait une première étape qui ne demande ni beaucoup de temps ni beaucoup d’argent ?",
        "Pouvez-vous m’en dire un peu plus sur les risques si je choisis simplement d’attendre ?",
        "Et comment saurai-je, dans quelques semaines, si c’était la bonne décision ?",
        "Ma famille verrait les choses autrement. Existe-t-il un compromis qui respecte les deux côtés ?",
    ),
    openings=(
        "Dans ma rue, les gens se connaissent à peine. Comment rapprocher un peu tout le monde ?",
        "J’aimerais aider davantage les autres, mais mes semaines sont pleines. Par où commencer ?",
        "Que faut-il dire à un ami proche quand on pense qu’il est en train de se tromper ?",
        "Est-il juste de partir loin pour une vie meilleure quand la famille reste sur place ?",
    ),
)
ITALIAN = Phrases(
    reasons=(
        "La risposta {chosen} prende sul serio la preoccupazione dietro la domanda e propone passi che si possono provare già domani.",
        "Mi piace {chosen} perché pensa a tutte le persone coinvolte e non soltanto a chi chiede il consiglio.",
        "{chosen} è la più vicina a come ne parlerebbero a tavola le persone di cui mi fido.",
        "Il consiglio di {chosen} è pacato e concreto, e mi lascia la libertà di decidere a modo mio.",
        "Quello che {chosen} dice sul parlarsi prima con sincerità corrisponde ai miei valori più di tutto il resto.",
        "{chosen} ammette con onestà che la scelta ha un prezzo e aiuta a valutarlo con equilibrio.",
    ),
    contrasts=(
        "Anche {other} è scritta bene, ma mi sembra più fredda e dimentica quello che provano gli altri.",
        "{other} pare ragionevole, eppure non funzionerebbe nella maggior parte delle famiglie che conosco.",
        "In {other} mi manca un esempio di che cosa dire quando la conversazione diventa difficile.",
        "{other} corre verso una soluzione, mentre io vorrei prima capire che cosa sta succedendo davvero.",
        "{other} potrebbe andarmi bene, anche se dà un po’ troppo peso alle regole.",
    ),
    closings=(
        "Per questo è quella che mi convince di più.",
        "Ecco la differenza che per me conta.",
        "La seguirei senza troppi dubbi.",
        "Nel complesso è semplicemente più utile.",
    ),
    follow_ups=(
        "Grazie, questo mi aiuta. E che cosa faccio se gli altri non la pensano affatto come me?",
        "Come potrei iniziare quel discorso senza dare l’impressione di accusare qualcuno?",
        "Capisco l’idea, ma abbiamo già provato qualcosa di simile e non è durato. E adesso?",
        "Quale sarebbe un primo passo che non richieda molto tempo né molti soldi?",
        "Può dirmi qualcosa di più sui rischi se per un po’ decido semplicemente di aspettare?",
        "E come capirò, tra qualche settimana, se è stata la decisione giusta?",
        "La mia famiglia la vedrebbe in modo diverso. Esiste un compromesso che rispetti entrambe le parti?",
    ),
    openings=(
        "Nella mia via le persone si conoscono appena. Come potremmo avvicinarle un po’?",
        "Vorrei aiutare di più gli altri, ma le mie settimane sono piene. Da dove posso cominciare?",
        "Che cosa è giusto dire a un amico caro quando si pensa che stia sbagliando?",
        "È giusto andare lontano per una vita migliore quando la famiglia rimane a casa?",
    ),
)
PORTUGUESE = Phrases(
    reasons=(
        "A resposta {chosen} leva a sério a preocupação por trás da pergunta e traz passos que dá para tentar amanhã mesmo.",
        "Gostei da {chosen} porque ela pensa em todas as pessoas envolvidas e não só em quem está perguntando.",
        "A {chosen} é a que mais se parece com o que diriam em casa as pessoas em quem confio.",
        "O conselho da {chosen} é tranquilo e concreto, e me deixa espaço para decidir do meu jeito.",
        "O que a {chosen} diz sobre conversar com franqueza primeiro combina mais com os meus valores do que o resto.",
        "A {chosen} reconhece com honestidade que a escolha tem um custo e ajuda a pesar isso com justiça.",
    ),
    contrasts=(
        "A {other} também está bem escrita, mas achei mais fria e ela esquece o que os outros sentem.",
        "A {other} parece sensata, só que não funcionaria na maioria das famílias que eu conheço.",
        "Na {other} faltou um exemplo do que dizer quando a conversa fica mais difícil.",
        "A {other} corre para a solução, e eu gostaria primeiro de entender o que está acontecendo.",
        "A {other} até serviria para mim, embora dê um pouco de importância demais às regras.",
    ),
    closings=(
        "Por isso é a que mais me convence.",
        "Essa é a diferença que conta para mim.",
        "Eu seguiria esse conselho sem muita dúvida.",
        "No geral, ela é simplesmente mais útil.",
    ),
    follow_ups=(
        "Isso ajuda, valeu. E o que eu faço se os outros não concordarem comigo de jeito nenhum?",
        "Como eu poderia começar essa conversa sem parecer que estou culpando alguém?",
        "Entendo a ideia, mas a gente já tentou algo parecido e não durou. E agora?",
        "Qual seria um bom primeiro passo que não custe muito tempo nem muito dinheiro?",
        "Você pode falar um pouco mais sobre os riscos se eu simplesmente esperar um tempo?",
        "E como vou saber, daqui a algumas semanas, se foi a decisão certa?",
        "Minha família veria isso de outro modo. Existe um meio-termo que respeite os dois lados?",
    ),
    openings=(
        "Na minha rua as pessoas quase não se conhecem. Como a gente poderia se aproximar mais?",
        "Eu queria ajudar mais os outros, mas minhas semanas são cheias. Por onde começo?",
        "O que devo dizer a uma pessoa amiga quando acho que ela está cometendo um erro?",
        "É certo ir embora em busca de uma vida melhor quando a família fica para trás?",
    ),
)
HINDI = Phrases(
    reasons=(
        "जवाब {chosen} सवाल के पीछे की चिंता को गंभीरता से लेता है और ऐसे कदम बताता है जो कल से ही आज़माए जा सकते हैं।",
        "मुझे {chosen} इसलिए पसंद आया क्योंकि उसमें सिर्फ़ पूछने वाले का नहीं, सबका ध्यान रखा गया है।",
        "{chosen} उस तरह की बात करता है जैसी मेरे भरोसे के लोग घर में बैठकर करते हैं।",
        "{chosen} की सलाह शांत और ठोस है, और उसमें अपने ढंग से फ़ैसला लेने की जगह बचती है।",
        "पहले खुलकर बात करने के बारे में {chosen} जो कहता है, वह मेरी सोच से सबसे ज़्यादा मेल खाता है।",
        "{chosen} ईमानदारी से मानता है कि हर फ़ैसले की एक कीमत होती है और उसे तौलने में मदद करता है।",
    ),
    contrasts=(
        "{other} भी अच्छा लिखा है, पर वह कुछ रूखा लगता है और दूसरों की भावनाएँ भूल जाता है।",
        "{other} समझदारी भरा लगता है, लेकिन मेरी जान-पहचान के ज़्यादातर परिवारों में वह नहीं चलेगा।",
        "{other} में यह उदाहरण नहीं मिलता कि बात बिगड़ने लगे तो क्या कहा जाए।",
        "{other} सीधे हल पर पहुँच जाता है, जबकि पहले यह समझना ज़रूरी है कि हो क्या रहा है।",
        "{other} भी ठीक है, हालाँकि उसमें नियमों पर थोड़ा ज़्यादा ज़ोर है।",
    ),
    closings=(
        "इसलिए मुझे यही सबसे सही लगा।",
        "मेरे लिए यही फ़र्क मायने रखता है।",
        "इस पर चलना मुझे आसान लगेगा।",
        "कुल मिलाकर यह ज़्यादा काम का है।",
    ),
    follow_ups=(
        "इससे मदद मिली। और अगर बाकी लोग मेरी बात से बिल्कुल सहमत न हों तो क्या किया जाए?",
        "यह बातचीत कैसे शुरू की जाए कि किसी को ऐसा न लगे कि उस पर इल्ज़ाम लगाया जा रहा है?",
        "बात समझ में आई, पर पिछले साल ऐसा ही कुछ आज़माया था और वह टिका नहीं। अब क्या करना चाहिए?",
        "ऐसा पहला कदम क्या हो सकता है जिसमें न ज़्यादा समय लगे और न ज़्यादा पैसे?",
        "अगर कुछ समय बस इंतज़ार किया जाए तो उसमें क्या जोखिम है, थोड़ा और बताइए।",
        "और कुछ हफ़्तों बाद यह कैसे पता चलेगा कि फ़ैसला सही था या नहीं?",
        "मेरे घर के लोग इसे अलग ढंग से देखेंगे। क्या बीच का कोई रास्ता है जिसमें दोनों की बात रह जाए?",
    ),
    openings=(
        "हमारी गली में लोग एक-दूसरे को मुश्किल से पहचानते हैं। सबको थोड़ा करीब कैसे लाया जाए?",
        "मेरा मन दूसरों की मदद करने का है, पर पूरा हफ़्ता भरा रहता है। शुरुआत कहाँ से की जाए?",
        "जब लगे कि कोई अच्छा दोस्त गलती कर रहा है, तो उससे कितना कहना ठीक है?",
        "बेहतर ज़िंदगी के लिए घर से दूर जाना क्या सही है, जब परिवार पीछे रह जाता हो?",
    ),
)
_BY_LANGUAGE = {"en": ENGLISH, "fr": FRENCH, "it": ITALIAN, "pt": PORTUGUESE, "hi": HINDI}


def phrases_in(tag: str) -> Phrases:
    """The phrases for a locale tag such as `pt-BR`. Raises `NoPhrases`."""
    language = tag.split("-")[0]
    try:
        return _BY_LANGUAGE[language]
    except KeyError:
        raise NoPhrases(
            f"Synthetic annotators do not write {language} yet (they know {', '.join(sorted(_BY_LANGUAGE))}); "
            "add its sentences to apps/desk/simulation/phrases.py, or leave out that locale with --locale."
        ) from None


class Writer:
    """Draws texts, never the same one twice in a row."""

    def __init__(self, phrases: Phrases, rng: random.Random) -> None:
        self._phrases, self._rng = phrases, rng
        self._last: dict[tuple[str, ...], str] = {}

    def explanation(self, *, chosen: str, other: str, minimum_words: int) -> str:
        """At least `minimum_words` words that name both letters."""
        sentences = [self._draw(self._phrases.reasons), self._draw(self._phrases.contrasts), self._draw(self._phrases.closings)]
        while len(" ".join(sentences).split()) < minimum_words:
            sentences.append(self._draw(self._phrases.contrasts))
        return " ".join(sentence.format(chosen=chosen, other=other) for sentence in sentences)

    def follow_up(self) -> str:
        return self._draw(self._phrases.follow_ups)

    def opening(self) -> str:
        return self._draw(self._phrases.openings)

    def _draw(self, texts: tuple[str, ...]) -> str:
        text = self._rng.choice([text for text in texts if text != self._last.get(texts)])
        self._last[texts] = text
        return text
