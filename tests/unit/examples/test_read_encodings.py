from __future__ import annotations

from pathlib import Path

import pytest
from example_builders import CHAT, codes, save

from fettle.errors import ConfigError
from fettle.examples.read import read_examples
from fettle.records import Severity

SENTENCES = {
    "cp1252": "Où est ma commande ? J’ai payé 20 €, c’est très décevant",
    "utf-8-sig": "naïve café £5",
    "utf-16": "naïve café £5",
    "utf-16-le": "plain words with one é",
    "cp850": "Wo ist mein Päckchen? Ich warte schon länger auf die Rückzahlung, viele Grüße",
    "mac_roman": "late again, I was in the café",
    "iso8859_15": "Bitte die 5 € zurück",
    "iso8859_2": "Czekam już tydzień, zostałem obciążony dwukrotnie, proszę o zwrot pieniędzy",
    "cp1254": "Bir haftadır bekliyorum, değil mi? Şimdi paramı geri istiyorum, lütfen",
    "cp1251": "Здравствуйте, где мой заказ? Я жду уже неделю",
    "iso8859_5": "Здравствуйте, где мой заказ? Я жду уже неделю",
    "cp866": "Здравствуйте, где мой заказ? Я жду уже неделю",
    "koi8_r": "Здравствуйте, где мой заказ? Я жду уже неделю",
    "cp1253": "Πού είναι το δέμα μου; Περιμένω μια εβδομάδα.",
    "cp932": "parcel 1024 荷物がまだ届きません。 please hurry, it is late",
    "euc_jp": "こんにちは、注文した商品がまだ届いていません。",
    "iso2022_jp": "こんにちは、注文した商品がまだ届いていません。",
    "cp949": "소포가 아직 도착하지 않았습니다. 언제 오나요?",
    "gb18030": "你好，我的订单还没有收到，请问在哪里",
}


@pytest.mark.parametrize("encoding", SENTENCES)
def test_common_encodings_are_recognised_and_named(tmp_path: Path, encoding: str):
    text = "text,label\n" + f'"{SENTENCES[encoding]}",x\n' * 3
    data = read_examples(save(tmp_path, "a.csv", text.encode(encoding)))
    assert data.examples[0].input_text == SENTENCES[encoding]
    [finding] = [finding for finding in data.findings if finding.code == "encoding"]
    is_marked = encoding.startswith("utf")
    assert finding.severity is (Severity.INFO if is_marked else Severity.WARNING)
    assert ("--encoding" in finding.remedy) is not is_marked


def test_a_guess_shows_what_it_made_of_the_text(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\nDas Päckchen nach Köln! Köln,x\n".encode("cp850")))
    [finding] = [finding for finding in data.findings if finding.code == "encoding"]
    assert finding.message.endswith("MS-DOS code page 850, which is a guess and gives: 'Köln', 'Päckchen'")


@pytest.mark.parametrize("encoding", ["cp850", "cp932"])
def test_an_encoding_is_told_from_what_stands_late_in_a_long_line(tmp_path: Path, encoding: str):
    text = {"cp850": "schöne Grüße", "cp932": "届きません"}[encoding]
    data = read_examples(save(tmp_path, "a.csv", f"text,label\n{'long ' * 40_000}{text},x\n".encode(encoding)))
    assert data.examples[0].input_text.endswith(text)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_the_encoding_that_the_user_names_is_taken(tmp_path: Path, name: str):
    text = "text,label\nКот,x\n" if name.endswith("csv") else '{"text": "Кот", "label": "x"}\n'
    path = save(tmp_path, name, text.encode("mac_cyrillic"))
    data = read_examples(path, encoding="Mac-Cyrillic")
    assert data.examples[0].input_text == "Кот"
    assert "encoding" not in codes(data)


def test_a_named_encoding_that_does_not_fit_is_a_warning(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\né ü,x\n".encode("cp1252")), encoding="utf-8")
    [finding] = [finding for finding in data.findings if finding.code == "encoding"]
    assert (finding.severity, data.examples[0].input_text) == (Severity.WARNING, "\ufffd \ufffd")
    assert finding.message.startswith("2 places are not utf-8")


@pytest.mark.parametrize("name", ["cp85", "", "base64", "rot13", "a\0b", "no such thing", "idna"])
def test_an_unknown_encoding_is_refused_and_others_named(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="no text encoding called") as caught:
        read_examples(save(tmp_path, "a.csv", "text,label\né,x\n"), encoding=name)
    assert "cp850 (MS-DOS)" in (caught.value.remedy or "")


def test_doubly_encoded_cells_are_put_right(tmp_path: Path):
    data = read_examples(
        save(tmp_path, "a.csv", "text,label\nplease refund Â£20 donâ€™t wait,x\nNESTLÉ® à la carte,y\n")
    )
    assert [item.input_text for item in data.examples] == ["please refund £20 don’t wait", "NESTLÉ® à la carte"]
    assert codes(data)["doubly-encoded"] == 2


def test_wrong_bytes_in_one_line_of_a_utf8_file_concern_that_line_only(tmp_path: Path):
    lines = [(CHAT % "é").encode(), (CHAT % "é").encode("latin-1"), (CHAT % "日").encode()]
    data = read_examples(save(tmp_path, "a.jsonl", b"\n".join(lines)))
    assert len(data.examples) == 2
    assert codes(data) == {"not-utf8": 2}
