"""How models decline, in the languages most seed pools are in.

A pattern must find a model that speaks of the request put to it, and pass over a person in a text who cannot do
something: so in English a refusal stands at the start of a sentence or clause, and its object is the request, or an
apology goes before it.
"""

from __future__ import annotations

import re

START = r"(?:\A[\"'\u201c]?|[.!?,;:\n\u2013\u2014-]\s*|\b(?:but|and|that) )"  # not a quotation in the middle of a task
CANNOT = (
    r"(?:can(?:no|')t|can not|won't(?: be able to)?|will not(?: be able to)?|am unable to|'m unable to|"
    r"am not able to|'m not able to)(?: (?:in good conscience|ethically|directly|actually|simply))?"
)
DO = (
    r"(?:help|assist|comply|fulfill?|provide|do|answer|rewrite|create|write|generate|produce|complete|continue|"
    r"engage|support|process|discuss|share|give)"
)
# What the model was asked for, as it speaks of it; or nothing more.
ASKED = (
    r"(?: you)?(?: (?:with|to|in))?(?: (?:that|this|these|those|your|such|any|the (?:request|prompt|instruction|task))"
    r"\b|\s*[.,;!]|\s*\Z)"
)
KIND = (
    r"(?:(?:comply|assist|help(?: you)?) with\b|(?:provide|generate|create|write|produce) (?:[\w-]+ ){0,3}"
    r"(?:advice|information|instructions|guidance|assistance|content|details|support)\b)"
)
SORRY = r"\b(?:sorry|apologi[sz]e|unfortunately|regret|afraid)\b[^.!?\n]{0,40}?"
# Over text in lower case with straight apostrophes. The group holds what was said without what led up to it.
REFUSAL = re.compile(
    "|".join(
        (
            rf"{START}(?P<said>i(?: |(?=')){CANNOT} (?:{DO}(?={ASKED})|{KIND}))",
            rf"{SORRY}\bi(?: |(?=')){CANNOT} {DO}\b",
            r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)(?: (?:language )?model| assistant)?"
            r"(?=,? (?:i|my)\b)",
            r"\b(?:ich kann|kann ich) (?:ihnen |dir )?(?:(?:dabei|damit|hierbei|leider|nicht) ){1,4}(?:weiter)?helfen",
            r"\bals (?:ki(?:-(?:sprach)?modell|-assistent)?|sprachmodell)(?=,? (?:kann|habe|bin|darf) ich)",
            r"\bje ne (?:peux|suis) pas (?:vous |t')?(?:en mesure|aider|répondre|fournir)\b",
            r"\bno puedo (?:ayudar|proporcionar|cumplir|responder|generar)",
            r"\bnão posso (?:ajudar|fornecer|cumprir|responder|gerar)",
            r"\bnon posso (?:aiutar|fornire|rispondere|soddisfare)",
            r"я не могу (?:вам |тебе )?(?:с этим |в этом )?(?:помочь|ответить|предоставить|выполнить)",
            r"(?:お手伝い|お答え|対応|提供)(?:すること)?(?:は|が)?でき(?:ません|かねます)",
            r"(?:我无法|我不能|抱歉，我)(?:为您|为你|给您)?(?:提供|帮助|协助|回答|满足|无法|不能)",
            r"(?:도와드릴|제공할|답변할) 수 없습니다",
        )
    )
)
