"""Words are split and counted alike in scripts with and without spaces."""

from __future__ import annotations

import pytest

from evol.words import count_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Name a River.", ["name", "a", "river"]),
        ("", []),
        (" \n\t ", []),
        ("... --- !? ()", []),
        ("→ ≤ 🇫🇷", []),
        ("don't", ["don't"]),
        ("don\u2019t", ["don\u2019t"]),
        ("'quoted'", ["quoted"]),
        ("rock 'n' roll", ["rock", "n", "roll"]),
        ("a well-known fact - this", ["a", "well-known", "fact", "this"]),
        ("pi is 3.14.", ["pi", "is", "3.14"]),
        ("snake_case_name", ["snake", "case", "name"]),
        ("ÜBER naïve ÉTÉ", ["über", "naïve", "été"]),
        ("日本語、テキスト。", ["日本語", "テキスト"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        ("Привет, мир!", ["привет", "мир"]),
        ("cafe\u0301s", ["cafe\u0301s"]),
        ("สวัสดีครับ", ["สวัสดีครับ"]),
    ],
)
def test_text_is_split_into_words_in_lower_case(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("... ?!", 0),
        ("Name a river.", 3),
        ("It's a well-known 3.14", 4),
        ("one\ntwo\tthree  four", 4),
        ("Größe und Maß", 3),
        ("안녕하세요 세계", 2),
        ("हिन्दी में एक कविता लिखो", 5),
        ("مُحَمَّد", 1),
        ("cafe\u0301s", 1),
    ],
)
def test_words_between_spaces_are_counted(text: str, count: int) -> None:
    assert count_words(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("日本", 1),
        ("日本語", 2),
        ("日本語、テキスト。", 4),
        ("人工智能正在改变世界", 5),
        ("กขคงจ", 1),
        ("กขคงจฉ", 2),
        ("Pythonで書く", 3),
        ("日本 กขคงจ two words", 4),
    ],
)
def test_words_of_unspaced_scripts_are_estimated_from_their_characters(text: str, count: int) -> None:
    assert count_words(text) == count


def test_a_japanese_text_counts_about_as_many_words_as_its_translation() -> None:
    japanese = "光合成の仕組みを、小学生にも分かるように短く説明してください。"
    english = "Please explain briefly how photosynthesis works, in a way that even primary school children understand."
    assert abs(count_words(japanese) - count_words(english)) <= 3
