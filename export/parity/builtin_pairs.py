"""The pairs that every export is checked on, before any of the user's own.

Written to differ in what breaks an export: subject, language and script, characters that tokenizers treat
specially, empty texts, and every length from nothing to far beyond the model's maximum.
"""

from pairscore.runtime.types import Pair

_CLIMATE: tuple[Pair, ...] = (
    ("Global warming is driving polar bears toward extinction.", "Recent research predicts environmental changes."),
    ("The sea level is rising.", "Tide gauges and satellites show a rise of about 20 cm since 1900."),
    ("Volcanoes emit more CO2 than people do.", "Human activities emit some 100 times more carbon dioxide each year."),
    ("CO2 is plant food, so more of it can only be good.", "Higher CO₂ raised yields in chambers; heat offset that."),
    ("Antarctica is gaining ice.", "Between 1992 and 2017 the continent lost 2,720 ± 1,390 billion tonnes."),
    ("The Medieval Warm Period was warmer than today.", "The moon has no atmosphere worth the name."),
    ("Coral bleaching follows marine heat waves.", "Corals expel their algae when the water stays too warm."),
    ("Climate models have been wrong for decades.", "14 of 17 projections matched what was later observed."),
)

_OTHER_SUBJECTS: tuple[Pair, ...] = (
    ("Vaccines cause autism.", "A cohort of 657,461 children showed no increased risk after vaccination."),
    ("Coffee stunts growth.", "Coffee stunts growth."),
    ("The bridge opened in 1937", "Construction began on January 5, 1933; the first cars crossed on May 28, 1937."),
    ("Is Berlin larger than Paris?", "Berlin had 3,520,031 registered inhabitants in an area of 891.82 km²."),
    ("def f(x): return x + 1", "The function adds one to its argument: f(2) == 3, f(-1) == 0."),
    ("A court fined the company €4.3bn.", "Prices rose 3.5% in Q1, and wages (seasonally adjusted) didn't follow."),
    ("no punctuation or capitals here", "NONE HERE EITHER, BUT EVERYTHING IS IN CAPITALS!!!"),
    ("see https://example.org/report?id=42&lang=en", "Contact: first.last+tag@example.org, or #thread on the forum."),
)

_LANGUAGES: tuple[Pair, ...] = (
    ("El deshielo de los glaciares andinos se acelera.", "Los glaciares perdieron un 30 % de su superficie."),
    ("Der Meeresspiegel steigt schneller als früher.", "Größtenteils dehnt sich das wärmere Wasser aus."),
    ("L'océan se réchauffe à cause des émissions.", "Près de 90 % de l'excès de chaleur y est stocké."),
    ("Ледники тают быстрее.", "Площадь ледников сократилась на четверть."),
    ("全球变暖正在使冰川融化。", "自1961年以来,冰川损失了超过九万亿吨冰。"),
    ("地球温暖化により海面が上昇している。", "The rise was about 3.7 mm a year from 2006 to 2018."),
    ("الاحتباس الحراري يرفع مستوى سطح البحر", "ההתחממות הגלובלית מעלה את פני הים"),
    ("지구 온난화로 해수면이 상승한다.", "वैश्विक तापमान बढ़ रहा है।"),
)

_ODDITIES: tuple[Pair, ...] = (
    ("", ""),
    ("", "The claim is an empty string."),
    ("The evidence is an empty string.", ""),
    (" ", "\n\t "),
    ("word", "word"),
    ("a", "?"),
    ("Planet on fire 🌍🔥", "👩‍👩‍👧‍👦 🏳️‍🌈 emoji joined from several characters 😀"),
    ("bell \x07, null \x00, escape \x1b", "line\r\nbreaks\tand tabs\x0band a form feed\x0c"),
    ("zero\u200bwidth, soft\u00adhyphen, mark\ufeff", "\u202eright to left override\u202c and back"),
    ("combining e\u0301 and composed \u00e9", "İstanbul, straße, ﬁne, ½, ²"),
    ("ＦＵＬＬ ＷＩＤＴＨ", "\U0001d518\U0001d52b\U0001d526 letters beyond the basic plane, \ue000 private"),
    ("literal [SEP] and [CLS] [MASK]", "literal </s> <s> <mask> <pad> [PAD] [UNK]"),
    ("    many     spaces    ", "!!!???...,,,;;;---___"),
    ("x" * 300, "one unbroken word of three hundred letters"),
)

_PARAGRAPH = (
    "The report gathers measurements from tide gauges, buoys and satellites over four decades. It finds that the "
    "upper ocean has warmed in every basin, that the rate has risen since 1993, and that the pattern fits what "
    "models expect from greenhouse gases rather than from the sun. Some regions cooled for a while: winds there "
    "brought deeper water to the surface. The authors list what remains uncertain, above all the heat below 2,000 "
    "metres, and ask for longer records. "
)


# Without a fused kernel, attention writes a matrix of the pair's tokens by its tokens for each head. Beyond this many
# tokens that costs gigabytes and minutes a pair, so no longer pair is scored.
LONGEST_SCORED = 2048


def builtin_pairs(max_length: int) -> list[Pair]:
    """The built-in parity set for a model that reads `max_length` tokens: short pairs first, then long ones."""
    claim, evidence = _CLIMATE[0]
    lengths = [_words(int(min(max_length, LONGEST_SCORED) * share)) for share in (0.1, 0.25, 0.5, 0.75)]
    return [
        *_CLIMATE,
        *_OTHER_SUBJECTS,
        *_LANGUAGES,
        *_ODDITIES,
        *((claim, text) for text in lengths),
        (lengths[1], evidence),
        *(truncated_pairs(max_length) if max_length <= LONGEST_SCORED else ()),
    ]


def truncated_pairs(max_length: int) -> list[Pair]:
    """Pairs that are cut in both texts, in the evidence only and in the claim only; one text has 100,000 characters."""
    claim, evidence = _CLIMATE[0]
    return [
        (_words(2 * max_length), "Against. " + _words(2 * max_length)),
        (claim, _words(2 * max_length)),
        (_words(2 * max_length), evidence),
        ("cut in the evidence", _characters(100_000)),
        (_characters(100_000), "cut in the claim"),
    ]


def _words(count: int) -> str:
    words = _PARAGRAPH.split()
    return " ".join(words[place % len(words)] for place in range(count))


def _characters(count: int) -> str:
    return (_PARAGRAPH * (count // len(_PARAGRAPH) + 1))[:count]
