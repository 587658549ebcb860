"""Sentences that mention a group of people and say nothing against it.

In labelled posts the name of a group often stands beside an insult, and a classifier learns the name. Harmless
sentences with the same names take that back (Dixon et al. 2018, *Measuring and Mitigating Unintended Bias in Text
Classification*).
"""

_GROUPS = (
    "Africans", "Arabs", "Asians", "atheists", "bisexual men", "black people", "black women", "Catholics", "children",
    "Chinese people", "Christians", "disabled people", "foreigners", "gay men", "gay people", "Germans", "girls",
    "Hindus", "immigrants", "Jewish people", "Jews", "Latinos", "lesbians", "men", "Mexicans", "Muslims",
    "Native Americans", "nuns", "old people", "Pakistanis", "people with autism", "poor people", "queer people",
    "refugees", "Roma", "Russians", "transgender people", "Turks", "white people", "women",
)  # fmt: skip
_SENTENCES = (
    "{} make up a tenth of the population of this town.",
    "Last year the council met with {} to plan a new park.",
    "She has been friends with {} since she was young.",
    "The author describes how {} lived a hundred years ago.",
    "There will be a concert for {} and their families on Sunday.",
    "Doctors found that {} get the disease as often as others.",
    "He works for a group that helps {} find work.",
    "Many {} moved here after the war and opened shops.",
    "The newspaper asked {} what they think of the new school.",
    "In this study {} answered questions about their health.",
    "I am proud that {} can marry and vote here.",
    "The theatre is looking for {} to play the main parts.",
    "We are {} and we love to cook together.",
    "{} are welcome in our club, as everybody is.",
    "My neighbours are {} and they water my plants when I am away.",
    "A teacher told the class about the history of {}.",
)


def harmless_mentions() -> list[str]:
    return [sentence.format(group) for sentence in _SENTENCES for group in _GROUPS]
