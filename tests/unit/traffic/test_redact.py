import json

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
