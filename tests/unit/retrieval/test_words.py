"""Words are cut and stemmed alike in passages and questions of any script."""

from __future__ import annotations

from collections import Counter

import pytest

from fettle.errors import ConfigError
from fettle.retrieval.words import language_of, stems_of, words_of

TEXTS = {
    "english": "The delivery of your order is free when it costs more than fifty euros, and you can return it to us.",
    "german": "Die Lieferung ist kostenlos, wenn die Bestellung mehr als fünfzig Euro kostet, und man kann sie an uns senden.",
    "dutch": "De levering van de bestelling is gratis als het meer dan vijftig euro kost, en je kunt het aan ons sturen.",
    "french": "La livraison de votre commande est gratuite pour les achats de plus de cinquante euros et vous avez le droit.",
    "spanish": "El envío de su pedido es gratis cuando cuesta más de cincuenta euros, y lo puede devolver en la tienda.",
    "italian": "La consegna del vostro ordine è gratuita per una spesa di più di cinquanta euro, e non si paga il reso.",
    "russian": "Доставка вашего заказа бесплатна, если он стоит больше чем пятьдесят евро, и вы можете вернуть его нам.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_text_is_recognised(language: str) -> None:
    assert language_of(Counter(words_of(TEXTS[language]))) == language


@pytest.mark.parametrize("text", ["", "SKU-4411 A7 B9 9.99 x86_64", "退款将在五个工作日内处理"])
def test_what_is_in_no_language_with_a_stemmer_is_left_as_it_is(text: str) -> None:
    assert language_of(Counter(words_of(text))) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("Ｆｕｌｌ width ①", ["full", "width", "1"]),
        ("don't_stop", ["don", "t_stop"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ราคา", ["รา", "าค", "คา"]),
        ("東", ["東"]),
        ("iPhone15を買う", ["iphone15", "を買", "買う"]),
        ("\ud800 lone", ["lone"]),
        ("😀 …", []),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_stemmer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no stemmer for 'klingon'"):
        stems_of(["word"], "klingon")
