"""Write `claims.parquet`, the pairs that a new user scores first.

    python examples/make_claims.py

Thirty claims, half on climate and half on other subjects, three sentences of evidence for each. Every
claim is paired with its own evidence and with nine sentences written for other claims, so that a scorer
has something to sort out: 360 pairs. The texts were written for this project.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OTHERS = 9

# claim -> (topic, evidence written for it)
CLAIMS: dict[str, tuple[str, tuple[str, str, str]]] = {
    "Sea level has been rising faster since the 1990s.": (
        "climate",
        (
            "Satellite altimeters show that the rate of sea level rise has more than doubled since 1993.",
            "Tide gauges recorded a slower rise during most of the twentieth century than in recent decades.",
            "Harbours on rising coastlines, such as the northern Baltic, see the water retreat from the land.",
        ),
    ),
    "Arctic summer sea ice is shrinking.": (
        "climate",
        (
            "The September extent of Arctic sea ice has fallen by about an eighth every decade since 1979.",
            "Most of the ice that survives the summer today is younger and thinner than forty years ago.",
            "Antarctic sea ice follows a different seasonal cycle, with its maximum in September.",
        ),
    ),
    "Volcanoes emit more carbon dioxide than people do.": (
        "climate",
        (
            "Human activities release roughly a hundred times as much carbon dioxide each year as all volcanoes.",
            "The gas escaping from a volcanic vent can be sampled directly or measured from a satellite.",
            "Large eruptions cool the surface for a year or two, because sulphate droplets reflect sunlight.",
        ),
    ),
    "The Sun is responsible for recent global warming.": (
        "climate",
        (
            "Solar irradiance has shown no upward trend since the 1970s, while surface temperature kept rising.",
            "The upper atmosphere has cooled as the lower one warmed, which a brighter Sun would not cause.",
            "Sunspot numbers follow a cycle of about eleven years.",
        ),
    ),
    "Coral reefs are harmed by warmer oceans.": (
        "climate",
        (
            "Corals expel the algae that feed them when the water stays one degree above the usual summer maximum.",
            "Mass bleaching events have struck most tropical reefs several times since 1998.",
            "Cold-water corals live in the dark, at depths of hundreds of metres.",
        ),
    ),
    "Climate models have overestimated warming.": (
        "climate",
        (
            "Most projections published since 1970 agree with the warming that was later observed.",
            "When actual emissions are put into the old models, their predicted trends match the thermometers.",
            "A model divides the atmosphere into boxes and computes the flow of energy between them.",
        ),
    ),
    "Permafrost thaw releases methane.": (
        "climate",
        (
            "As frozen ground thaws, microbes break down old plant matter and give off methane and carbon dioxide.",
            "Lakes that form on thawing tundra bubble with gas that burns when it is lit.",
            "About a quarter of the land of the northern hemisphere lies on permafrost.",
        ),
    ),
    "Heavy rainfall is becoming more intense.": (
        "climate",
        (
            "Warmer air holds about seven per cent more water vapour for every degree Celsius.",
            "The wettest day of the year has grown wetter at most stations with long records.",
            "Rain gauges have been read at the same hour each morning since the nineteenth century.",
        ),
    ),
    "Carbon dioxide is only a trace gas and cannot affect climate.": (
        "climate",
        (
            "A few hundred parts per million of carbon dioxide absorb much of the heat radiated by the surface.",
            "Nitrogen and oxygen, which make up most of the air, are transparent to infrared radiation.",
            "Soda water gets its bubbles from dissolved carbon dioxide.",
        ),
    ),
    "Glaciers all over the world are retreating.": (
        "climate",
        (
            "Nearly every monitored glacier has lost mass over the last thirty years.",
            "Meltwater from the Himalaya feeds rivers on which hundreds of millions of people depend.",
            "A few Karakoram glaciers have been stable or have advanced slightly.",
        ),
    ),
    "The ocean absorbs most of the excess heat.": (
        "climate",
        (
            "More than nine tenths of the heat trapped by greenhouse gases has gone into the sea.",
            "Thousands of drifting floats measure temperature down to two kilometres every ten days.",
            "Sound travels faster in warm water than in cold water.",
        ),
    ),
    "Cattle are a significant source of greenhouse gases.": (
        "climate",
        (
            "Microbes in the stomachs of cows produce methane, most of which is belched out.",
            "Livestock accounts for roughly a seventh of the greenhouse gases that people cause.",
            "A dairy cow eats some fifty kilograms of feed a day.",
        ),
    ),
    "Wind turbines cause large numbers of bird deaths.": (
        "climate",
        (
            "Turbines kill far fewer birds than cats, windows or power lines do.",
            "Eagles and other soaring birds are at risk where wind farms stand on their flight paths.",
            "Painting one of the blades black reduced collisions in a Norwegian trial.",
        ),
    ),
    "The ocean is becoming more acidic.": (
        "climate",
        (
            "The pH of surface sea water has dropped by about 0.1 since the industrial revolution.",
            "Dissolved carbon dioxide forms carbonic acid, which makes it harder for shellfish to build shells.",
            "Lemon juice has a pH of about two.",
        ),
    ),
    "Plants grow better with more carbon dioxide, so emissions are good for crops.": (
        "climate",
        (
            "Extra carbon dioxide speeds up photosynthesis, but wheat grown in it contains less protein and zinc.",
            "Heat and drought cost farmers more than they gain from carbon dioxide fertilisation.",
            "Greenhouse growers often raise the concentration of carbon dioxide on purpose.",
        ),
    ),
    "Regular exercise lowers blood pressure.": (
        "health",
        (
            "Thirty minutes of brisk walking on most days lowers systolic pressure by several points.",
            "In trials, people assigned to endurance training had lower readings after twelve weeks.",
            "Blood pressure is written as two numbers, in millimetres of mercury.",
        ),
    ),
    "Vitamin C cures the common cold.": (
        "health",
        (
            "Taking vitamin C after symptoms begin does not shorten a cold in controlled trials.",
            "Oranges, peppers and blackcurrants are rich in ascorbic acid.",
            "Colds are caused by more than two hundred different viruses.",
        ),
    ),
    "Smoking increases the risk of lung cancer.": (
        "health",
        (
            "People who smoke are fifteen to thirty times as likely to get lung cancer as those who do not.",
            "The risk falls with every year after the last cigarette, but it takes decades to come near normal.",
            "Tobacco reached Europe from the Americas in the sixteenth century.",
        ),
    ),
    "Handwashing prevents infections.": (
        "health",
        (
            "Washing with soap cuts the number of diarrhoeal illnesses by about a third.",
            "Semmelweis saw deaths in his maternity ward fall once doctors had to wash their hands.",
            "Soap is made from fat and lye.",
        ),
    ),
    "Antibiotics work against viruses.": (
        "health",
        (
            "Antibiotics attack structures that bacteria have and viruses lack, so they do nothing against influenza.",
            "Overuse of antibiotics breeds resistant strains of bacteria.",
            "Penicillin was found in a mould in 1928.",
        ),
    ),
    "The Great Wall of China is visible from the Moon.": (
        "space",
        (
            "No astronaut on the Moon could make out any building on Earth, the Great Wall included.",
            "The wall is rarely more than nine metres wide, about as wide as a road.",
            "Long stretches of the wall were built under the Ming dynasty.",
        ),
    ),
    "The Moon causes the tides.": (
        "space",
        (
            "The pull of the Moon raises two bulges of water, under which the Earth turns once a day.",
            "Spring tides come at new and full moon, when Sun and Moon pull along one line.",
            "The Moon shows the same face to the Earth all the time.",
        ),
    ),
    "Mars once had liquid water on its surface.": (
        "space",
        (
            "Rovers have found rounded pebbles and clay minerals that form only in standing or flowing water.",
            "Dry valleys and deltas on Mars look like those that rivers carve on Earth.",
            "A Martian day lasts about forty minutes longer than ours.",
        ),
    ),
    "Lightning never strikes the same place twice.": (
        "physics",
        (
            "The Empire State Building is struck by lightning some twenty times a year.",
            "A lightning rod leads the current along a thick cable into the ground.",
            "Thunder is heard after the flash, since light travels faster than sound.",
        ),
    ),
    "Water boils at a lower temperature on high mountains.": (
        "physics",
        (
            "At the top of Mont Blanc, where the air is thin, water boils at about 85 degrees Celsius.",
            "Mountaineers carry pressure cookers, because potatoes take too long in an open pot.",
            "Salt raises the boiling point of water by a small amount.",
        ),
    ),
    "Honey never spoils.": (
        "food",
        (
            "Sealed honey keeps for centuries, since hardly any microbe can live in so little water.",
            "Jars of honey found in ancient tombs were still said to be edible.",
            "A worker bee makes about a twelfth of a teaspoon of honey in her life.",
        ),
    ),
    "Coffee is the world's most valuable traded commodity after oil.": (
        "economy",
        (
            "Natural gas, gold, iron ore and wheat are all traded for more money than coffee.",
            "Brazil grows about a third of the world's coffee.",
            "Roasting turns green coffee beans brown at about two hundred degrees Celsius.",
        ),
    ),
    "The Roman Empire fell in the year 476.": (
        "history",
        (
            "In 476 Odoacer deposed Romulus Augustulus, the last emperor in the West.",
            "The eastern half of the empire lasted until the Ottomans took Constantinople in 1453.",
            "Roman concrete sets even under water.",
        ),
    ),
    "Einstein failed mathematics at school.": (
        "history",
        (
            "Einstein had mastered calculus before he was fifteen and got top marks in mathematics.",
            "He failed the general part of an entrance examination that he took two years early.",
            "Einstein played the violin for most of his life.",
        ),
    ),
    "Octopuses have three hearts.": (
        "biology",
        (
            "Two hearts pump blood through an octopus's gills, and a third serves the rest of its body.",
            "The main heart stops when an octopus swims, which is why it prefers to crawl.",
            "An octopus can squeeze through any gap that its beak fits through.",
        ),
    ),
}


def pairs() -> pa.Table:
    """Columns `claim`, `evidence`, `topic`, and `written_for_claim`: whether the evidence was."""
    claims = list(CLAIMS)
    rows: list[dict[str, str | bool]] = []
    for place, claim in enumerate(claims):
        topic, own = CLAIMS[claim]
        # Steps of 7 visit every other claim once, since 7 and the number of claims share no factor.
        others = [claims[(place + 7 * step) % len(claims)] for step in range(1, OTHERS + 1)]
        evidence = [(text, True) for text in own]
        evidence += [(CLAIMS[other][1][step % 3], False) for step, other in enumerate(others)]
        rows += [
            {"claim": claim, "evidence": text, "topic": topic, "written_for_claim": mine} for text, mine in evidence
        ]
    return pa.Table.from_pylist(rows)


if __name__ == "__main__":
    pq.write_table(pairs(), Path(__file__).with_name("claims.parquet"))
