"""English ways to say that there is no answer: the source does not tell, the question cannot be answered, I do not know.

A "not" alone says nothing of the kind: "Towels are not provided." is an answer. So a phrase names the source with a verb of
telling, or the question or its answer, or it is all that is said.
"""

from __future__ import annotations

import re

_KIND = (
    r"(?:documents?|documentation|passages?|paragraphs?|excerpts?|extracts?|contexts?|texts?|sources?|articles?|information|materials?"
    r"|handbooks?|manuals?|books?|pages?|reports?|files?|faqs?|instructions|guidelines|knowledge base)"
)
_NOT_YOURS = r"(?!(?:your|my|his|her|their) )"
_SOURCE = rf"(?:{_NOT_YOURS}\S+ ){{0,3}}{_KIND}"
"""As a subject: "your documents do not state your age" is an answer."""
_THE_SOURCE = rf"(?:the|these|those|this|our|your|any)(?: \S+){{0,2}} {_KIND}"
_FROM_SOURCE = rf"(?:from|in|by|with|using|based on) {_THE_SOURCE}\b"
_NOT = r"(?:(?:do|did|can|could) not|never)(?: \w+ly| even| seem to| appear to)?"
_TELL = r"(?:answer|say|tell|mention|state|specify|explain|describe|discuss|address|disclose|cover|be used to answer)"
_TELLS = r"(?:answers?|says?|tells?|mentions?|states?|specif(?:y|ies)|explains?|describes?|covers?)"
_TOLD = (
    r"(?:answered|said|told|mentioned|stated|specified|explained|described|discussed|addressed|covered|given|provided|found"
    r"|contained)"
)
_HOLD = r"(?:contains?|includes?|provides?|gives?|have|has|holds?|offers?)"
_KNOWLEDGE = r"(?:answers?|information|details?|mention|data)"
_NO_KNOWLEDGE = rf"(?:no|not any|not enough|insufficient) (?:relevant |sufficient |further )?{_KNOWLEDGE}"
_ABOUT = r"(?:about|on|of|for|in|as to|to|regarding|concerning|whether|how|that|given|provided|available)"
_THE_ANSWER = rf"(?:the|an|this|that|such|any) {_KNOWLEDGE}"
_QUESTION = r"(?:(?:this|that|the|your) question|this|that|it)"

_BEGINNING = re.compile(
    rf"(?:(?:i am |we are )?(?:sorry|afraid|unfortunately) (?:but )?(?:that )?|(?:based on|according to) {_THE_SOURCE} )"
)
_BEGINS = (
    rf"{_SOURCE}(?: \S+){{0,5}} (?:never {_TELLS}|{_NOT} {_TELL})",
    rf"{_SOURCE}(?: \S+){{0,5}} {_NOT} {_HOLD} (?:the |an |any |enough |sufficient |relevant ){{0,2}}{_KNOWLEDGE}",
    rf"{_SOURCE}(?: \S+){{0,5}} (?:(?:says?|tells?|{_HOLD}) nothing|(?:is|are) silent)",
    rf"{_SOURCE} {_HOLD} {_NO_KNOWLEDGE}",
    rf"(?:none of {_THE_SOURCE}|no {_KIND}|nothing in {_THE_SOURCE}) {_TELLS}",
    rf"(?:.+ (?:is|are|was|were) )?not (?:\w+ly |anywhere )?(?:{_TOLD} in|answered by) {_THE_SOURCE}",
    rf"(?:(?:{_THE_ANSWER}|it|this|that) is )?not (?:part of|in) {_THE_SOURCE}",
    rf"there (?:is|are|was|were) {_NO_KNOWLEDGE} {_ABOUT}",
    rf".+ can not be (?:answered|determined|inferred|established|found) {_FROM_SOURCE}",
    rf"(?:i|we) (?:have {_NO_KNOWLEDGE}|do not have (?:the|that|this|any|enough|sufficient) {_KNOWLEDGE}) (?:{_ABOUT}|from)",
    rf"(?:i|we) (?:can|could|did) not (?:find|see) (?:{_THE_ANSWER}|anything) {_ABOUT}",
)
"""Of a sentence, whatever comes after."""
_WHOLE = (
    rf"{_SOURCE}(?: \S+){{0,5}} {_NOT} {_HOLD} (?:this|that|it)",
    rf"(?:{_QUESTION}|the answer) can not be (?:answered|determined|inferred|established|found)",
    r"(?:(?:this|that|the|your) question is )?(?:unanswerable|not answerable)",
    rf"(?:{_THE_ANSWER} is )?not (?:\w+ly )?(?:mentioned|stated|specified|answered|given|known|available)",
    r"(?:it|this|that) is not (?:\w+ly )?(?:mentioned|stated|specified|answered)",
    rf"{_THE_ANSWER} is not (?:provided|found|included|there)",
    rf"(?:there (?:is|was) |i have |we have )?{_NO_KNOWLEDGE}(?: is)?(?: found| given| provided| available)?",
    rf"(?:i|we) (?:can|could|did) not (?:answer|find|tell)(?: {_QUESTION}| {_THE_ANSWER})?(?: {_FROM_SOURCE}.*)?",
    rf"(?:i|we) do not know(?: this| that| it| the answer(?: to {_QUESTION})?)?(?: {_FROM_SOURCE}.*)?",
    rf"(?:i|we) do not have (?:the|that|this|any|enough|sufficient) {_KNOWLEDGE}",
    r"n a|na",
)
_PHRASE = re.compile(rf"(?:{'|'.join(_BEGINS)})\b.*|{'|'.join(_WHOLE)}")
_GOES_ON = re.compile(r"\b(?:but|however)\b")
_SHORT_FORMS = (
    ("’", "'"),
    ("can't", "can not"),
    ("cannot", "can not"),
    ("n't", " not"),
    ("does not", "do not"),
    ("i'm ", "i am "),
    ("there's ", "there is "),
)
"""As the phrases have them, replaced in this order."""
_SIGNS = re.compile(r"[^\w\s'-]|(?<!\w)['-]|['-](?!\w)")


def says_no_answer(sentence: str) -> bool:
    """Whether an English sentence does no more than to say that there is no answer.

    >>> says_no_answer("The handbook doesn't say."), says_no_answer("Towels are not provided.")
    (True, False)
    """
    words = sentence.casefold()
    for short, long in _SHORT_FORMS:
        words = words.replace(short, long)
    words = " ".join(_SIGNS.sub(" ", words).split())
    if (beginning := _BEGINNING.match(words)) is not None:
        words = words[beginning.end() :]
    return _PHRASE.fullmatch(words) is not None and _GOES_ON.search(words) is None
