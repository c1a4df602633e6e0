"""Pieces of text while an answer is written: together they are the answer, and no character is cut in two."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fettle.answering.text_stream import TextStream


def decoded(tokens: Sequence[int]) -> str:
    """A tokenizer of single bytes."""
    return bytes(tokens).decode(errors="replace")


def pieces_of(text: bytes, *stops: str) -> tuple[list[str], TextStream]:
    stream = TextStream(decoded, stops)
    pieces = [stream.push([byte], is_last=place == len(text) - 1) for place, byte in enumerate(text)]
    return pieces, stream


def test_pieces_together_are_the_text_without_the_space_around_it() -> None:
    pieces, stream = pieces_of("  Grüße an 東京 🎉, alles gut.  \n".encode())
    assert "".join(pieces) == stream.text == "Grüße an 東京 🎉, alles gut."
    assert all("\ufffd" not in piece for piece in pieces)
    assert sum(piece != "" for piece in pieces) > 10  # it is given out while it is written


def test_what_comes_after_a_stop_text_is_no_part_of_it_and_its_beginning_is_held_back() -> None:
    pieces, stream = pieces_of(b"one END two STOP three", "STOP", "nowhere")
    assert stream.has_stopped
    assert "".join(pieces) == stream.text == "one END two"
    held, stream = pieces_of(b"this ST ends", "STOP")
    assert "".join(held) == stream.text == "this ST ends"
    assert not stream.has_stopped


@pytest.mark.parametrize("damaged", [b"abc\xff", b"abc\xe6\x9d"])
def test_bytes_that_are_no_character_are_given_out_at_the_end(damaged: bytes) -> None:
    pieces, stream = pieces_of(damaged)
    assert "".join(pieces) == stream.text == decoded(damaged)
    assert pieces[2] == "c"


def test_an_answer_that_is_nothing_but_space_is_empty() -> None:
    pieces, stream = pieces_of(b" \n ")
    assert pieces == ["", "", ""]
    assert stream.text == ""
