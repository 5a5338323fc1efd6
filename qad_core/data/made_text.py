"""English-like text made on the spot from a fixed seed, for trials that must need no download.

Owns the grammar. A document keeps to one topic and a few names, so that a small model learns letters,
words, sentence shapes, and to look back for the names; its length varies from a line to some pages.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

MADE_SEED = 20_240_731
MADE_CHARACTERS = 300_000
"""Characters made when the source sets no limit."""

NAMES: tuple[str, ...] = (
    "Ada", "Bram", "Clara", "Dora", "Edwin", "Fiona", "Goran", "Hanna", "Ivo", "Judith",
    "Karel", "Lena", "Marek", "Nora", "Oskar", "Petra", "Quentin", "Rosa", "Simon", "Tilda",
)  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """The words of one kind of document; `pairs` are (verb, object) that go together."""

    places: tuple[str, ...]
    adjectives: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


TOPICS = (
    Topic(
        ("harbour", "lighthouse", "pier", "fish market"),
        ("grey", "salty", "windy", "slow"),
        (("mended", "net"), ("painted", "boat"), ("counted", "barrel"), ("watched", "tide"), ("sold", "herring")),
    ),
    Topic(
        ("kitchen", "bakery", "cellar", "dining room"),
        ("warm", "sweet", "fresh", "golden"),
        (("baked", "loaf"), ("peeled", "apple"), ("stirred", "soup"), ("tasted", "sauce"), ("washed", "kettle")),
    ),
    Topic(
        ("library", "archive", "reading room", "school"),
        ("old", "quiet", "dusty", "thick"),
        (("copied", "letter"), ("read", "chapter"), ("sorted", "card"), ("lost", "page"), ("bound", "volume")),
    ),
    Topic(
        ("workshop", "mill", "forge", "station"),
        ("heavy", "loud", "bright", "broken"),
        (("repaired", "engine"), ("oiled", "wheel"), ("measured", "beam"), ("cut", "plank"), ("tested", "valve")),
    ),
    Topic(
        ("garden", "orchard", "meadow", "greenhouse"),
        ("green", "tall", "wild", "early"),
        (("watered", "rose"), ("planted", "pear tree"), ("trimmed", "hedge"), ("found", "beetle"), ("drew", "fern")),
    ),
)
TIMES = ("In the morning", "After lunch", "On Sunday", "Before the rain", "Late in the evening", "Every spring")
REASONS = ("because the light was good", "although nobody had asked", "so that the others could rest", "as usual")


def make_documents(characters: int = MADE_CHARACTERS, seed: int = MADE_SEED) -> Iterator[str]:
    """Documents without end in view, until `characters` are reached; the same at every call."""
    generator = random.Random(seed)
    made = 0
    while made < characters:
        document = make_document(generator)
        made += len(document)
        yield document


def make_document(generator: random.Random) -> str:
    """One document: 1 to 12 paragraphs, most of them few, on one topic with two or three people."""
    topic = generator.choice(TOPICS)
    people = generator.sample(NAMES, generator.randint(2, 3))
    num_paragraphs = min(generator.randint(1, 12) for _ in range(2))
    paragraphs = [_make_paragraph(generator, topic, people) for _ in range(num_paragraphs)]
    title = f"{' and '.join(people)} at the {generator.choice(topic.places)}"
    return "\n\n".join([title, *paragraphs]) + "\n"


def _make_paragraph(generator: random.Random, topic: Topic, people: list[str]) -> str:
    return " ".join(_make_sentence(generator, topic, people) for _ in range(generator.randint(2, 6)))


def _make_sentence(generator: random.Random, topic: Topic, people: list[str]) -> str:
    who, other = generator.sample(people, 2)
    verb, thing = generator.choice(topic.pairs)
    adjective, place = generator.choice(topic.adjectives), generator.choice(topic.places)
    number = generator.randint(2, 99)
    shapes = (
        f"{who} {verb} the {adjective} {thing} in the {place}.",
        f"{generator.choice(TIMES)}, {who} {verb} a {thing} {generator.choice(REASONS)}.",
        f'"Where is the {thing}?" asked {who}. "It is in the {place}," said {other}.',
        f"There were {number} of them, and {number + 1} after {other} {verb} another {thing}.",
        f"The {thing} was {adjective}, and {other} told {who} so.",
    )
    return generator.choice(shapes)
