"""The demo teacher: rules instead of a model, to see evol at work with nothing installed and nothing paid.

It really rewrites the instruction according to the operator, judges by counting what was added, and answers with an
outline. What it writes is English, repeats itself and knows nothing: its rows are marked, and are not for training.
Equal requests get equal replies.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b

from evol.records import NO_PRICE, Allowance, Price, Request
from evol.teachers.base import Description, completion_body
from evol.words import count_words

CONSTRAINTS = (
    "Keep the answer under 150 words and do not use the passive voice.",
    "Write for a reader of twelve years, and explain every technical term in half a sentence.",
    "Give exactly three points, ordered from the most to the least important, and say why that order.",
    "End with one sentence that names the weakest part of your own answer.",
    "Do not use any example that first comes to mind; pick a less common one and say so.",
)
DEPTHS = (
    "Also explain what causes this, and under which condition the opposite would be true.",
    "Also name the strongest objection to your answer and say what speaks against that objection.",
    "Also describe what follows from this in the long run, for those who gain and for those who lose.",
    "Also say how an expert would tell a good answer to this from one that only sounds good.",
)
PARTICULARS = (
    ("a city", "Valparaíso"),
    ("the city", "the old town of Valparaíso"),
    ("a company", "a bakery with eleven employees"),
    ("the company", "the bakery with its eleven employees"),
    ("a friend", "a friend who moved to Oslo last winter"),
    ("a customer", "a customer who has ordered every month for six years"),
    ("a list", "a list of exactly seven entries"),
    ("some", "at least four"),
    ("several", "exactly five"),
)
CASES = (
    "Take as the case a village library with 2,300 books, one paid librarian and forty visitors a day.",
    "Take as the case a family of five on a farm, 30 km from the next town, in a dry summer.",
    "Take as the case a night shift of nine people in a hospital that has just changed its software.",
)
STEPS = (
    "Work it out step by step, and say after each step what it rests on.",
    "First list what must be known before this can be answered, settle each of these in turn, then conclude.",
    "Compare two ways to get there, carry both out in steps, and decide between them at the end.",
)
CORNERS = (
    "Describe a mistake that beginners make with {topic}, why it is tempting, and how to notice it early.",
    "Write five questions that a sceptical newcomer would ask about {topic}, each with an answer of one sentence.",
    "Explain how {topic} looks from the point of view of somebody who has to repair it when it goes wrong.",
    "Invent a short dialogue in which two colleagues disagree about {topic} and both turn out to be partly right.",
)
SENTENCES = {"deepen": DEPTHS, "concretize": CASES, "increase_reasoning": STEPS}
FORMATS = {
    "XML data": '<records topic="{topic}">\n  <record id="1" value="{a}"/>\n  <record id="2" value="{b}"/>\n</records>',
    "an SQL database": (
        "CREATE TABLE record (id INTEGER, topic TEXT, value INTEGER);\n"
        "INSERT INTO record VALUES (1, '{topic}', {a}), (2, '{topic}', {b});"
    ),
    "Python code": 'records = {{"{topic}": [{a}, {b}]}}\nprint(max(records["{topic}"]) - min(records["{topic}"]))',
    "an HTML page": "<main>\n  <h1>{topic}</h1>\n  <ul><li>first: {a}</li><li>second: {b}</li></ul>\n</main>",
    "a shell command": "printf '%s\\n' '{topic} {a}' '{topic} {b}' | sort -k2 -n | tail -n 1",
    "JSON data": '{{"topic": "{topic}", "records": [{{"id": 1, "value": {a}}}, {{"id": 2, "value": {b}}}]}}',
}
ENOUGH_DEMANDS = 5  # sentences that ask for something; beyond it another one is judged to be no gain
DEMAND = re.compile(
    r"\b(?:also|exactly|at least|do not|keep|end with|take as the case|step by step|first list|compare|explain|"
    r"under \d+|which|why|how)\b",
    re.IGNORECASE,
)
TOPIC = re.compile(r"[^\W\d_]{5,}")
COMMON = frozenset(
    """
    about after again also answer because before between could describe different every example explain first following
    given might other question sentence should summary their there these thing those three through under using where
    which while would write yourself
    """.split()
)


class DemoTeacher:
    """Rules that play all four roles."""

    model = "demo"
    demo = True
    free = True
    price: Price | None = NO_PRICE
    allowance: Allowance | None = None
    context: int | None = None
    busy_with = ""

    def __init__(self) -> None:
        self.notices: list[str] = []

    async def send(self, request: Request) -> bytes:
        values = request.values
        if request.stage == "evolve":
            text = _evolve(request.operator, values["instruction"], values.get("data_format", ""))
        elif request.stage == "judge":
            text = _judge(values["parent"], values["child"])
        elif request.stage == "score" and not values:
            text = json.dumps({"fruit": "pear"})  # `evol teachers check` puts no instruction, but a question
        elif request.stage == "score":
            text = json.dumps(
                {"explanation": "counted, not understood", "difficulty": _difficulty(values["instruction"])}
            )
        else:
            text = _respond(values.get("instruction", request.user))
        return completion_body(text, request.system + request.user, self.model)

    async def describe(self) -> Description:
        return Description("in this process", "rules write JSON")

    async def close(self) -> None:
        return None


def _number(*texts: str) -> int:
    return int.from_bytes(blake2b("\0".join(texts).encode(), digest_size=4).digest(), "big")


def _one(options: tuple[str, ...], instruction: str) -> str:
    """One of the sentences, one that the instruction does not have yet if there is one."""
    fresh = [option for option in options if option not in instruction] or list(options)
    return fresh[_number(instruction) % len(fresh)]


def _topic(instruction: str) -> str:
    """The longest telling word, the first of its length."""
    words = [word for word in TOPIC.findall(instruction) if word.lower() not in COMMON]
    return max(words, key=len).lower() if words else "this"


def _append(instruction: str, sentence: str) -> str:
    joint = "\n\n" if "\n" in instruction else " "
    return f"{instruction.rstrip()}{joint}{sentence}"


def _evolve(operator: str, instruction: str, data_format: str) -> str:
    if operator == "breadth":
        return _one(CORNERS, instruction).format(topic=_topic(instruction))
    if operator == "complicate_input":
        data = FORMATS.get(data_format, FORMATS["JSON data"])
        number = _number(instruction, data_format)
        data = data.format(topic=_topic(instruction), a=10 + number % 80, b=100 + number % 700)
        return f"{instruction.rstrip()}\n\nUse this data, and say which of its values your answer depends on:\n\n{data}"
    if operator == "concretize":
        for general, particular in PARTICULARS:
            if f" {general} " in instruction:
                return instruction.replace(f" {general} ", f" {particular} ", 1)
    return _append(instruction, _one(SENTENCES.get(operator, CONSTRAINTS), instruction))


def _difficulty(instruction: str) -> int:
    demands = len(DEMAND.findall(instruction))
    data = any(mark in instruction for mark in ("<records", "CREATE TABLE", "print(", "<main>", "printf", '{"'))
    return max(1, min(10, 1 + demands + data + count_words(instruction) // 40))


def _judge(parent: str, child: str) -> str:
    added = len(DEMAND.findall(child)) - len(DEMAND.findall(parent))
    crowded = len(DEMAND.findall(parent)) >= ENOUGH_DEMANDS and child.startswith(parent.rstrip())
    no_gain = crowded or (added <= 0 and child.startswith(parent[:40]) and abs(len(child) - len(parent)) < 10)
    explanation = "the parent asks for enough already" if crowded else f"{max(0, added)} more demands than the parent"
    verdict = {"explanation": explanation, "no_gain": no_gain, "answerable": True, "difficulty": _difficulty(child)}
    return json.dumps(verdict)


def _respond(instruction: str) -> str:
    topic = _topic(instruction)
    lines = [f"An outline on {topic}, made by rules:"]
    sentences = [sentence for sentence in re.split(r"(?<=[.?!])\s+", instruction) if count_words(sentence) > 2][:6]
    lines += [f'{number}. To meet "{sentence[:80]}": look at {topic}.' for number, sentence in enumerate(sentences, 1)]
    return "\n".join([*lines, f"In short, {topic} is what this is about."])
