#!/usr/bin/env python3
"""Writes items.jsonl: 200 questions with four answers each, made by rule. The same file on every run."""
import json
import pathlib
import random

CAPITALS = """France Paris, Spain Madrid, Italy Rome, Germany Berlin, Portugal Lisbon, Greece Athens, Austria Vienna,
Poland Warsaw, Hungary Budapest, Sweden Stockholm, Norway Oslo, Finland Helsinki, Denmark Copenhagen, Ireland Dublin,
Russia Moscow, Ukraine Kyiv, Turkey Ankara, Egypt Cairo, Kenya Nairobi, Japan Tokyo, China Beijing, Thailand Bangkok,
Vietnam Hanoi, Iran Tehran, Iraq Baghdad, Canada Ottawa, Cuba Havana, Peru Lima, Chile Santiago, Argentina Buenos_Aires,
Australia Canberra, Belgium Brussels, Romania Bucharest, Bulgaria Sofia, Serbia Belgrade, Syria Damascus,
Lebanon Beirut, Jordan Amman, Nepal Kathmandu, Colombia Bogotá"""
OPPOSITES = """hot cold, big small, old young, fast slow, light dark, high low, wet dry, hard soft, rich poor, open closed,
early late, full empty, strong weak, long short, happy sad, loud quiet, clean dirty, right wrong, up down, day night,
north south, east west, black white, first last, true false, near far, thick thin, heavy light, deep shallow,
sweet sour"""
YOUNG = """dog puppy, cat kitten, cow calf, horse foal, sheep lamb, pig piglet, duck duckling, goat kid, lion cub,
deer fawn, hen chick, kangaroo joey"""
WORK = """teaches_in_a_school teacher, flies_a_plane pilot, bakes_bread baker, puts_out_fires firefighter,
grows_food_on_a_farm farmer, heals_the_sick doctor, cuts_hair barber, writes_books author, catches_fish fisherman,
paints_pictures painter, drives_a_taxi driver, repairs_pipes plumber, sells_meat butcher, makes_laws politician"""
ORDER = ["Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
         "January February March April May June July August September October November December".split()]
CONTINENTS = """Kenya Africa, Brazil South_America, Japan Asia, Spain Europe, Canada North_America, Egypt Africa,
India Asia, Peru South_America, Poland Europe, Mexico North_America, Nigeria Africa, Vietnam Asia, Sweden Europe,
Chile South_America"""


def pairs(text):
    return [[word.replace("_", " ") for word in pair.split()] for pair in text.split(",")]


def items(chance):
    def item(question, right, others):
        wrong = chance.sample(sorted({other for other in others if other != right}), 3)
        at = chance.randrange(4)
        return {"question": question, "choices": [*wrong[:at], right, *wrong[at:]], "answer": at}

    def of_pairs(text, question):
        known = pairs(text)
        for key, value in known:
            yield item(question.format(key), value, [other for _, other in known])

    yield from of_pairs(CAPITALS, "What is the capital of {}?")
    yield from of_pairs(OPPOSITES, "What is the opposite of {}?")
    yield from of_pairs(YOUNG, "What is the young of a {} called?")
    yield from of_pairs(WORK, "Who {}?")
    yield from of_pairs(CONTINENTS, "On which continent is {}?")
    for names in ORDER:
        for name, following in zip(names, names[1:] + names[:1]):
            yield item(f"What comes after {name}?", following, [other for other in names if other != name])
    sums = [(a, b) for a in range(1, 10) for b in range(1, 10)]
    for a, b in chance.sample(sums, 50):
        yield item(f"How much is {a} plus {b}?", str(a + b), [str(a + b + d) for d in (-2, -1, 1, 2)])
    for a, b in chance.sample([(a + b, b) for a, b in sums], 21):
        yield item(f"How much is {a} minus {b}?", str(a - b), [str(a - b + d) for d in (-1, 1, 2, 3)])


def main():
    made = list(items(random.Random(0)))
    assert len(made) == 200, len(made)
    with open(pathlib.Path(__file__).with_name("items.jsonl"), "w") as out:
        for number, one in enumerate(made):
            out.write(json.dumps({"id": number, **one}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
