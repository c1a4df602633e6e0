import json

import pytest

from fettle.traffic.redact import redacted, redacted_body


def test_personal_data_become_their_kind() -> None:
    text = "I am at grace@example.com, IBAN DE89 3704 0044 0532 0130 00, card 4111 1111 1111 1111."
    assert redacted(text) == "I am at [email], IBAN [iban], card [card]."


def test_other_text_stays_as_it_is() -> None:
    text = "Where is my parcel? It is 2 kg, and costs 4.50.\n"
    assert redacted(text) == text


def test_what_functions_are_called_with_stays_json() -> None:
    arguments = json.dumps({"to": "grace@example.com", "card": 4111111111111111, "n": 2, "is_paid": True, "note": None})
    call = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    body = redacted_body({"role": "assistant", "content": None, "tool_calls": [call]}, is_answer=True)
    function = body["tool_calls"][0]["function"]
    assert function["name"] == "send"
    clean = json.loads(function["arguments"])
    assert clean == {"to": "[email]", "card": "[card]", "n": 2, "is_paid": True, "note": None}


def test_arguments_without_personal_data_stay_letter_for_letter() -> None:
    arguments = '{"city":  "Rome", "n": 1e3}'
    call = {"function": {"name": "seats", "arguments": arguments}}
    assert redacted_body({"tool_calls": [call]})["tool_calls"][0]["function"]["arguments"] == arguments


def test_arguments_that_are_no_json_are_redacted_as_text() -> None:
    body = redacted_body({"function": {"name": "send", "arguments": '{"to": "grace@example.com'}})
    assert body["function"]["arguments"] == '{"to": "[email]'


@pytest.mark.parametrize(
    "arguments",
    [
        '{"grace@example.com": true}',
        '{"to": "grace@example.com", "to": "x"}',
        '{"to": "grace\\u0040example.com"',
        json.dumps({"body": json.dumps({"to": "grace@example.com"}).replace("@", "\\u0040")}),
        "[" * 100_000 + "grace@example.com",
    ],
    ids=["name of a value", "given twice", "escaped and cut short", "JSON in JSON", "too deep"],
)
def test_no_corner_of_json_hides_personal_data(arguments: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    clean = json.dumps(redacted_body({"role": "assistant", "tool_calls": [call]}, is_answer=True))
    assert "grace" not in clean
    assert "[email]" in clean


def test_of_a_name_that_is_personal_the_value_stays() -> None:
    body = redacted_body({"function": {"name": "send", "arguments": '{"grace@example.com": 1}'}})
    assert json.loads(body["function"]["arguments"]) == {"[email]": 1}


@pytest.mark.parametrize("iban", ["GB82WEST12345698765432", "ES91 2100 0418 4502 0005 1332", "AT611904300234573201"])
def test_an_account_is_found_before_words_in_capitals(iban: str) -> None:
    assert redacted(f"MY ACCOUNT IS {iban} THANKS, BYE") == "MY ACCOUNT IS [iban] THANKS, BYE"
    assert redacted(f"{iban} OK") == "[iban] OK"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Mail jürgen@müller.example, bitte", "Mail [email], bitte"),
        ("Tel. 030/1234567 abends", "Tel. [phone] abends"),
        ("call +49 (0)30 1234567 or 0049 (0) 170/1234567.", "call [phone] or [phone]."),
        ("Tel. 0171 / 123 45 67", "Tel. [phone]"),
        ("Ich bin geb. 12.03.1980", "Ich bin [birth-date]"),
        ("Seit 01/2024, am 03/04/2026 und 3/4", "Seit 01/2024, am 03/04/2026 und 3/4"),
    ],
)
def test_personal_data_as_they_are_written_in_german(text: str, wanted: str) -> None:
    assert redacted(text) == wanted


def test_what_a_tool_says_in_json_is_read_as_json() -> None:
    said = '{"mail": "grace\\u0040example.com", "call": "\\u002B49 30 1234567", "born": "1990-04-01", "sum": 1500}'
    clean = json.loads(redacted_body({"role": "tool", "tool_call_id": "call_1", "content": said})["content"])
    assert clean == {"mail": "[email]", "call": "[phone]", "born": "[birth-date]", "sum": 1500}


def test_the_name_of_who_says_something_is_redacted_and_that_of_a_function_is_not() -> None:
    assert redacted_body({"role": "user", "name": "grace@example.com", "content": "Hi"})["name"] == "[email]"
    call = {"id": "call_1", "type": "function", "function": {"name": "send_1234567890", "arguments": "{}"}}
    assert redacted_body({"tool_calls": [call]})["tool_calls"] == [call]


def test_amounts_and_days_that_functions_are_called_with_stay() -> None:
    arguments = '{"amount": 1500, "size": "1024", "day": "2026-11-27", "place": "10115"}'
    assert redacted_body({"function": {"name": "book", "arguments": arguments}})["function"]["arguments"] == arguments
