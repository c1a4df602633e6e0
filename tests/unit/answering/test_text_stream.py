"""Pieces of text while an answer is written: together they are the answer, and no character is cut in two."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fettle.answering.text_stream import TextStream


def decoded(tokens: Sequence[int]) -> str:
    """A tokenizer of single bytes."""
    return bytes(tokens).decode(errors="replace")


def pieces_of(text: bytes, *stops: str, space: str = "") -> tuple[list[str], TextStream]:
    stream = TextStream(decoded, stops, space=space)
    pieces = [stream.push([byte]) for byte in text]
    pieces.append(stream.push([], is_last=True))
    return pieces, stream


def test_pieces_together_are_the_text_with_the_space_around_it() -> None:
    text = "  Grüße an 東京 🎉, alles gut.  \n"
    pieces, stream = pieces_of(text.encode())
    assert "".join(pieces) == stream.text == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert sum(piece != "" for piece in pieces) > 10  # it is given out while it is written


def test_what_comes_after_a_stop_text_is_no_part_of_it_and_its_beginning_is_held_back() -> None:
    pieces, stream = pieces_of(b"one END two STOP three", "STOP", "nowhere")
    assert stream.has_stopped
    assert "".join(pieces) == stream.text == "one END two "
    held, stream = pieces_of(b"this ST ends", "STOP")
    assert "".join(held) == stream.text == "this ST ends"
    assert not stream.has_stopped


@pytest.mark.parametrize("damaged", [b"abc\xff", b"abc\xe6\x9d"])
def test_bytes_that_are_no_character_are_given_out_at_the_end(damaged: bytes) -> None:
    pieces, stream = pieces_of(damaged)
    assert "".join(pieces) == stream.text == decoded(damaged)
    assert pieces[2] == "c"


def test_space_alone_is_an_answer() -> None:
    pieces, stream = pieces_of(b" \n ")
    assert pieces == [" ", "\n", " ", ""]
    assert stream.text == " \n "
    assert stream.num_certain_tokens == 3


@pytest.mark.parametrize(
    ("written", "given"),
    [
        (b" Hello", "Hello"),
        (b"  Hello", " Hello"),
        (b"Hello", "Hello"),
        (b"\n Hello ", "\n Hello "),
        (b" ", ""),
        (b"", ""),
    ],
)
def test_the_space_of_the_template_is_left_out_where_it_stands_and_no_other(written: bytes, given: str) -> None:
    pieces, stream = pieces_of(written, space=" ")
    assert "".join(pieces) == stream.text == given
    assert stream.num_certain_tokens == len(written)


def test_a_stop_text_is_not_looked_for_in_the_space_of_the_template() -> None:
    pieces, stream = pieces_of(b" one two", " ", space=" ")
    assert "".join(pieces) == stream.text == "one"
    assert stream.has_stopped
