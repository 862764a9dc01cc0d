"""Texts become the terms that are stored and looked up."""

import random
import unicodedata

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
        ("Straße ÆRØ \ufb01ne \uff21\uff22 \u00bd", ["strasse", "aero", "fine", "ab", "1", "2"]),
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


ALIKE = {
    "Korean, composed or not": ["한국어 텍스트", unicodedata.normalize("NFD", "한국어 텍스트")],
    "Korean of half width": ["하나", "\uffbe\uffc2\uffa4\uffc2"],
    "kana, composed or not": ["ガイド が", unicodedata.normalize("NFD", "ガイド が")],
    "kana of half width": ["ガイ・パン", "\uff76\uff9e\uff72\uff65\uff8a\uff9f\uff9d"],
    "letters and numbers of full width": [
        "ABC v1.2.3 x",
        "\uff21\uff22\uff23\u3000\uff56\uff11\uff0e\uff12\uff0e\uff13 \uff58",
    ],
    "variants of ideographs": ["葛城 東京", "葛\U000e0100城 東\ufe00京\ufe0f"],
    "compatibility ideographs and radicals": ["金日", "\uf90a\u2f47"],
    "joiners": ["zero東京 é", "ze\u200dr\u200co東\u2060京 e\u034f\u0301"],
    "marks of direction and of order": ["word1", "\ufeffwo\u200erd\u20681\u2069"],
    "signs that are letters": ["Å Ω K", "\u212b \u2126 \u212a"],
    "ligatures and squares": ["file 株式会社 km", "\ufb01le \u337f \u339e"],
    "digits of keys": ["2\u20e3 ok", "2\ufe0f\u20e3 ok"],
    "Vietnamese, composed or not": ["Tiếng Việt", unicodedata.normalize("NFD", "Tiếng Việt")],
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("language", [None, "english"])
def test_texts_that_look_alike_have_the_same_words(name: str, language: str | None) -> None:
    first, *others = ([*analyzer(language).terms([text])] for text in ALIKE[name])

    assert first
    assert others == [first]


def test_a_space_without_width_ends_a_word() -> None:
    assert PLAIN.terms(["two\u200bwords"]) == ["two", "words"]


_ODD = (
    "aA1._-\u00ad\u00e9\u0301\u0323\u0345\u034f\u1100\u1161\u11a8\uac00\u3131\u314f\uffa1\uffc2\uff76\uff9e"
    "\u30ab\u3099\u6771\ufe00\U000e0100\u200d\u200b\u0e01\u0e33\u0915\u093c\u0bc6\u0bbe\ufb01\u00bd\ufdfa\u212b"
    "\u0f73\u0f71\uff11\uff0e \u0130\u00df"
)


@pytest.mark.parametrize("seed", range(20))
def test_any_text_has_its_words_at_places_in_it(seed: int) -> None:
    random_ = random.Random(seed)
    for _ in range(200):
        text = "".join(random_.choices(_ODD, k=random_.randrange(1, 12)))
        spans = list(PLAIN.spans(text))
        assert [term for term, _, _ in spans] == PLAIN.terms([text]), repr(text)
        for term, start, end in spans:
            assert 0 <= start < end <= len(text), repr(text)
            assert term in PLAIN.terms([text[start:end]]), repr(text)
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            changed = unicodedata.normalize(form, text)
            assert PLAIN.terms([changed]) == PLAIN.terms([text]), repr(text)


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
