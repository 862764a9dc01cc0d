"""Texts become the terms that are stored and looked up."""

import pytest

from vicinal.keywords.analyzer import (
    TERM_CHARS_MAX,
    TERMS_MAX,
    Analyzer,
    analyzer,
    languages,
)

PLAIN, ENGLISH = analyzer(None), analyzer("english")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        (" \t\n--!?", []),
        ("The quick-brown FOX", ["the", "quick", "brown", "fox"]),
        ("foo_bar x86_64", ["foo", "bar", "x86", "64"]),
        ("CVE-2021-44228", ["cve", "2021", "44228"]),
        ("libssl3 v1.2.3 1.2.3 V1.2.3rc1 2.", ["libssl3", "1.2.3", "1.2.3", "1.2.3rc1", "2"]),
        ("ERR_SSL: (0x80004005)", ["err", "ssl", "0x80004005"]),
        ("don't l'avion", ["don", "t", "l", "avion"]),
        ("Café CAFE\u0301 cafe", ["cafe", "cafe", "cafe"]),
        ("Straße ÆRØ \ufb01ne \uff21\uff22 \u00bd", ["strasse", "aero", "fine", "ab", "12"]),
        ("ΑΘΉΝΑΣ Αθηνας", ["αθηνασ", "αθηνασ"]),
        ("ёлка елка", ["елка", "елка"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("東京都 京 Python入門", ["東京", "京都", "京", "python", "入門"]),
        ("東京\u3001大阪", ["東京", "大阪"]),
        ("한국어", ["한국", "국어"]),
        ("สวน", ["สว", "วน"]),
        ("soft\u00adhyphen zero\u200cwidth", ["softhyphen", "zerowidth"]),
        ("a OR b NOT (c) \"d\" e* +f", ["a", "or", "b", "not", "c", "d", "e", "f"]),
        ("\U0001f600 ok \U0001f600", ["ok"]),
    ],
)  # fmt: skip
def test_words_are_compared_without_case_accents_and_signs(text: str, terms: list[str]) -> None:
    assert PLAIN.terms([text]) == terms


def test_words_of_a_language_are_cut_to_the_stems_of_this_version() -> None:
    # Stored indexes have these stems: another version of the library must not have others.
    words = "running foxes' generously skies dying naïve libssl3 1.2.3 organization"
    expected = "run fox generous sky die naiv libssl3 1.2.3 organiz"
    assert ENGLISH.terms([words]) == expected.split()
    assert analyzer("german").terms(["Häuser Aufhäuser"]) == ["haus", "aufhaus"]
    assert analyzer("french").terms(["mangé mangeons"]) == ["mang", "mangeon"]
    assert analyzer("russian").terms(["красивые"]) == ["красив"]


def test_every_language_that_is_named_has_stems() -> None:
    assert {"english", "german", "french", "spanish", "russian"} <= set(languages())
    for language in languages():
        assert analyzer(language).terms(["Word 1.2 東京"])[-1] == "東京"


@pytest.mark.parametrize(
    "text",
    [
        "The FOXES run",
        "a Café-bar 東京都タワー x",
        "e\u0301te\u0301 1.2.3, v1.2",
        "",
        "\u00ad\u00ad a",
    ],
)
def test_spans_are_the_terms_with_their_places(text: str) -> None:
    spans = list(ENGLISH.spans(text))

    assert [term for term, _, _ in spans] == ENGLISH.terms([text])
    for term, start, end in spans:
        assert 0 <= start < end <= len(text)
        assert ENGLISH.terms([text[start:end]]) == [term]


def test_a_long_word_counts_by_its_start() -> None:
    assert PLAIN.terms(["A" * 1_000]) == ["a" * TERM_CHARS_MAX]


def test_a_document_has_a_bounded_number_of_terms() -> None:
    texts = [" ".join(f"w{number}" for number in range(60_000))] * 2
    assert PLAIN.terms(texts) == [f"w{number}" for number in range(TERMS_MAX)]
    assert len(PLAIN.terms(["東" * 100_000])) == TERMS_MAX


def test_remembered_words_are_bounded() -> None:
    words = Analyzer(None)
    for first in range(0, 200_000, 10_000):
        words.terms([" ".join(f"w{number}" for number in range(first, first + 10_000))])
    assert len(words._terms_of) <= 1 << 16  # noqa: SLF001  # no other way to see it
