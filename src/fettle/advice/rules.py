"""The rules of advice before a run: few, each with its source or its rationale, none of them weighed into a score.

Every rung has its rules in an order (`RULES`, at the end).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fettle.advice.opinion import (
    A_FEW,
    FEW_PER_LABEL,
    HARDLY_IN_DOCUMENTS,
    LARGEST_USEFUL_DIFFERENCE,
    LOW_CONSISTENCY,
    MOSTLY_IN_DOCUMENTS,
    MOSTLY_RIGHT,
    MUCH_NOISE,
    SOME_ABSENT,
    Case,
    Opinion,
    Rule,
    say,
)
from fettle.advice.questions import Said
from fettle.advice_records import Advised, Given, Measurement, Rung, Unit
from fettle.examples.checks.size import FEW_EXAMPLES
from fettle.records import TaskKind

# ---------------------------------------------------------------------------------------------------- every language model


def _too_slow(case: Case) -> Opinion | None:
    """One answer alone takes longer here than it may; a GPU, a smaller model or a server has to come first."""
    took, limit = case.measured.answer_seconds, case.answers.latency_seconds
    if took is None or limit is None or took.number <= limit:
        return None
    text = "An answer takes longer on this machine than it may; look for a faster machine or a smaller model first."
    return say(Advised.NOT_YET, text, took, case.given["latency_seconds"])


# ---------------------------------------------------------------------------------------------------- prompt, few-shot


def _prompt_is_the_measure(case: Case) -> Opinion:
    """Nothing is trained, and whatever costs more has to beat it: the first promise of a study."""
    text = "It takes nothing beforehand, and whatever takes more has to beat it."
    return say(Advised.TRY, text, case.measured.prompt_tokens)


def _no_room_for_shots(case: Case) -> Opinion | None:
    """Prompt, one example and the answer have to fit into the model's context."""
    m = case.measured
    if m.prompt_tokens.number + m.shot_tokens.number + m.answer_tokens.number <= m.context.number:
        return None
    return say(Advised.SKIP, "Not one example fits into the prompt.", m.shot_tokens, m.prompt_tokens, m.context)


def _alike_is_answered_alike(case: Case) -> Opinion | None:
    """Nearest examples help where their answers are near to the wanted one (Liu et al. 2022, "What makes good in-context examples
    for GPT-3?").
    """
    m = case.measured
    if m.nearest is None or m.constant is None or m.nearest.low <= m.constant.high:
        return None
    text = "Messages that are alike are answered alike, so the nearest examples in a prompt carry much of the answer."
    return say(Advised.TRY, text, m.nearest, m.constant)


def _shots_show_the_form(case: Case) -> Opinion | None:
    """Examples in the prompt convey format and the space of labels, whatever else they do (Min et al. 2022)."""
    if case.answers.format_is_the_problem is not Said.YES:
        return None
    text = "Examples in the prompt show the form that is wanted."
    return say(Advised.TRY, text, case.given["format_is_the_problem"], case.measured.shot_tokens)


def _shots_cost_tokens(case: Case) -> Opinion:
    text = "Examples in the prompt need no training, and make every request longer."
    return say(Advised.TRY, text, case.measured.shot_tokens, case.measured.prompt_tokens)


# ---------------------------------------------------------------------------------------------------- classifier


def _labels_hardly_known(case: Case) -> Opinion | None:
    per_label = case.measured.examples_per_label
    if per_label is None or per_label.number >= FEW_PER_LABEL:
        return None
    return say(Advised.NOT_YET, "There are hardly any examples of a label; collect more first.", per_label)


def _classifier_tells_labels_apart(case: Case) -> Opinion | None:
    """Small classifiers often beat prompted models on labels (Bucher and Martini 2024), and answer in milliseconds: a language
    model that loses to one should not be shipped.
    """
    m = case.measured
    if m.classifier is None or m.constant is None or m.classifier.low <= m.constant.high:
        return None
    if m.classifier.number > MOSTLY_RIGHT:
        text = "A plain classifier is mostly right, and answers in milliseconds; a language model has to beat it."
        return say(Advised.TRY_FIRST, text, m.classifier, m.constant)
    text = "A plain classifier is better than one label for everybody, if mostly wrong; it takes no more than milliseconds."
    return say(Advised.TRY, text, m.classifier, m.constant)


def _classifier_learns_nothing(case: Case) -> Opinion:
    m = case.measured
    if m.classifier is None or m.constant is None:
        return say(Advised.TRY, "For labels a plain classifier is the cheapest way.", m.num_labels, m.num_train)
    text = "A plain classifier is not surely better than the same label for everybody."
    return say(Advised.SKIP, text, m.classifier, m.constant)


# ---------------------------------------------------------------------------------------------------- documents


def _in_documents(case: Case) -> Measurement | None:
    return case.measured.documents_found or case.measured.answers_in_documents


def _no_documents(case: Case) -> Opinion | None:
    """Facts that change are looked up, not learned (Ovadia et al. 2024): without documents there is nothing to look them up in."""
    if case.measured.has_documents:
        return None
    given = case.given["knowledge_changes"]
    if case.answers.knowledge_changes is Said.YES:
        text = "Facts that change have to be looked up, and no documents are named; give them with --documents."
        return say(Advised.NOT_YET, text, given)
    text = "No documents are named, and nobody has said that answers need facts that change."
    return say(Advised.SKIP, text, given)


def _documents_do_not_answer(case: Case) -> Opinion | None:
    found = _in_documents(case)
    if found is None or found.high >= HARDLY_IN_DOCUMENTS:
        return None
    return say(Advised.SKIP, "What is found in the documents hardly ever holds the answer.", found)


def _knowledge_changes(case: Case) -> Opinion | None:
    """Retrieval was the better way to bring in facts, new ones above all (Ovadia et al. 2024, "Fine-tuning or retrieval?")."""
    if not case.measured.has_documents or case.answers.knowledge_changes is not Said.YES:
        return None
    text = "Facts that change belong in documents, where they are changed without training."
    return say(Advised.TRY_FIRST, text, case.given["knowledge_changes"], _in_documents(case))


def _documents_answer(case: Case) -> Opinion | None:
    found = _in_documents(case)
    if found is None or found.low <= MOSTLY_IN_DOCUMENTS:
        return None
    return say(Advised.TRY_FIRST, "Most answers stand in what is found in the documents.", found)


def _answers_stand_in_the_documents_already(case: Case) -> Opinion | None:
    """Documents that were made of the examples answer the test split, and nothing else."""
    told = case.measured.told_in_documents
    if told is None:
        return None
    text = "Documents may have been made of the examples: retrieval would look up the answers."
    return say(Advised.NOT_YET, text, told)


def _documents_may_help(case: Case) -> Opinion:
    text = "Documents are there, and how far they help has to be measured."
    return say(Advised.TRY, text, _in_documents(case) or case.given["knowledge_changes"])


def _must_say_that_nothing_is_there(case: Case) -> Opinion | None:
    """Training with passages, distractors and missing ones teaches to use what is there and to say when it is not (RAFT, Zhang et
    al. 2024).
    """
    absent = case.measured.absent_in_documents
    if absent is None or absent.low <= SOME_ABSENT:
        return None
    return say(Advised.TRY, "A model has to learn to say when the documents do not answer.", absent)


def _form_and_facts(case: Case) -> Opinion | None:
    if case.answers.format_is_the_problem is not Said.YES:
        return None
    text = "Facts come from documents and the form from training; such a model has both."
    return say(Advised.TRY, text, case.given["format_is_the_problem"], _in_documents(case))


def _after_retrieval(case: Case) -> Opinion:
    text = "Worth its training where answers fail in answering and not in searching, which a study tells apart."
    return say(Advised.TRY, text, _in_documents(case) or case.given["knowledge_changes"])


# ---------------------------------------------------------------------------------------------------- tuning


def _too_few_examples(case: Case) -> Opinion | None:
    """OpenAI's guide sees gains from 50 to 100 good examples on; below 50 no comparison can be decided either."""
    m = case.measured
    if m.num_train.number >= FEW_EXAMPLES:
        return None
    return say(Advised.NOT_YET, "There are too few examples to learn from; collect more first.", m.num_train)


def _labels_are_in_doubt(case: Case) -> Opinion | None:
    """A model is trained to repeat errors, and a test split with errors cannot tell who makes fewer (Northcutt et al. 2021)."""
    m = case.measured
    doubtful = [one for one in (m.probable_wrong_labels, m.conflicts) if one is not None and one.low > MUCH_NOISE]
    if m.consistency is not None and m.consistency.high < LOW_CONSISTENCY and m.task is not TaskKind.TEXT:
        doubtful.append(m.consistency)
    if not doubtful:
        return None
    text = "The wanted answers contradict each other; put them right first, for a model learns the errors too."
    return say(Advised.NOT_YET, text, *doubtful)


def _test_shows_too_little(case: Case) -> Opinion | None:
    m = case.measured
    if m.detectable.number < LARGEST_USEFUL_DIFFERENCE:
        return None
    text = "The test split could show only a huge gain; collect more test examples first."
    return say(Advised.NOT_YET, text, m.detectable, m.num_test, m.rows_for_five_points)


def _classifier_leaves_too_little(case: Case) -> Opinion | None:
    """What is left above the classifier, at most, has to be more than the test split can show."""
    m = case.measured
    if m.classifier is None or 1 - m.classifier.low >= m.detectable.number:
        return None
    text = "What a plain classifier leaves to be won is less than the test split can show."
    return say(Advised.SKIP, text, m.classifier, m.detectable)


def _cannot_pay(case: Case) -> Opinion | None:
    """More cannot be won than is missing to all answers right, above what is reached without any language model."""
    m = case.measured
    best, needed = m.best_without_model, m.points_to_pay
    if best is None or needed is None or needed.number <= 1 - best.low:
        return None
    given = case.given
    ours = _at(given["requests_per_day"], given["cost_per_wrong_answer"])
    text = f"{ours} tuning cannot pay for itself: there are not so many wrong answers to save."
    return say(Advised.SKIP, text, needed, best, given["requests_per_day"], given["cost_per_wrong_answer"])


def _facts_do_not_belong_in_weights(case: Case) -> Opinion | None:
    """Fine-tuning brings new facts in badly, and wrong ones are not taken out of it (Ovadia et al. 2024; Gekhman et al. 2024)."""
    if case.answers.knowledge_changes is not Said.YES or case.answers.format_is_the_problem is Said.YES:
        return None
    text = "Facts that change would have to be trained in again and again, and are learned badly."
    return say(Advised.SKIP, text, case.given["knowledge_changes"])


def _tuning_teaches_form(case: Case) -> Opinion | None:
    """Form and style are learned from few examples (Zhou et al. 2023, "LIMA")."""
    if case.answers.format_is_the_problem is not Said.YES:
        return None
    text = "Form and tone are what tuning teaches best, from as many examples as there are."
    return say(Advised.TRY, text, case.given["format_is_the_problem"], case.measured.num_train)


def _values_are_copied(case: Case) -> Opinion | None:
    """What stands in the message can be found by whoever has learned which part is wanted."""
    found = case.measured.values_in_input
    if found is None or found.low <= MOSTLY_IN_DOCUMENTS or case.measured.task is not TaskKind.JSON:
        return None
    text = "Most values stand in the message; which of them is wanted, in which form, is learned from examples."
    return say(Advised.TRY, text, found, case.measured.num_train)


def _room_to_learn(case: Case) -> Opinion:
    m = case.measured
    text = "There are examples to learn from, and room above what is reached without a language model."
    return say(Advised.TRY, text, m.num_train, m.best_without_model, m.detectable)


# ---------------------------------------------------------------------------------------------------- the large model


def _must_not_leave(case: Case) -> Opinion | None:
    if case.answers.large_model is not Said.NO:
        return None
    return say(Advised.SKIP, "Messages may not be sent to a large model.", case.given["large_model"])


def _not_decided(case: Case) -> Opinion | None:
    if case.answers.large_model is not Said.UNKNOWN:
        return None
    personal = case.measured.personal_data
    text = "First decide whether messages may be sent to one"
    if personal.number > A_FEW:
        return say(Advised.NOT_YET, f"{text}; some hold personal data.", case.given["large_model"], personal)
    return say(Advised.NOT_YET, f"{text}.", case.given["large_model"])


def _at(traffic: Given, error: Given | None = None) -> str:
    """Whose traffic, and cost of an error, a sentence is about.

    >>> _at(Given(name="requests_per_day", title="requests a day", value="300", is_said=False))
    'At the traffic that is assumed'
    """
    both = traffic if error is None else replace(traffic, is_said=traffic.is_said and error.is_said)
    what = "traffic" if error is None else "traffic and cost of an error"
    return f"At your {what}" if both.is_said else f"At the {what} that {'is' if error is None else 'are'} assumed"


def _tokens_are_cheaper(case: Case) -> Opinion | None:
    """A machine is paid for while it waits: with little traffic a price by the token is the cheaper one."""
    needed = case.measured.traffic_for_hosting
    if needed is None or case.measured.traffic_for_hosting_is_reached:
        return None
    traffic = case.given["requests_per_day"]
    text = f"{_at(traffic)} a large model by the token is cheaper than a machine of your own that waits."
    return say(Advised.TRY_FIRST, text, needed, traffic)


def _router_saves(case: Case) -> Opinion | None:
    """Sending only hard requests to the large model keeps most of its quality at a part of its price (Chen et al. 2023,
    "FrugalGPT").
    """
    needed = case.measured.traffic_for_hosting
    if needed is None or needed.unit is Unit.WORDS or not case.measured.traffic_for_hosting_is_reached:
        return None
    traffic = case.given["requests_per_day"]
    text = f"{_at(traffic)} a machine of your own is cheaper; a router sends the large model only the hard requests."
    return say(Advised.TRY, text, needed, traffic)


def _one_more_contender(case: Case) -> Opinion:
    text = "A large model may be asked: it is one more contender, and says what quality can be had."
    return say(Advised.TRY, text, case.given["large_model"])


RULES: Mapping[Rung, tuple[Rule, ...]] = {
    Rung.PROMPT: (_too_slow, _prompt_is_the_measure),
    Rung.FEW_SHOT: (
        _no_room_for_shots,
        _too_slow,
        _alike_is_answered_alike,
        _shots_show_the_form,
        _shots_cost_tokens,
    ),
    Rung.CLASSIFIER: (_classifier_tells_labels_apart, _labels_hardly_known, _classifier_learns_nothing),
    Rung.RETRIEVAL: (
        _no_documents,
        _answers_stand_in_the_documents_already,
        _documents_do_not_answer,
        _too_slow,
        _knowledge_changes,
        _documents_answer,
        _documents_may_help,
    ),
    Rung.TUNED: (
        _too_few_examples,
        _labels_hardly_known,
        _labels_are_in_doubt,
        _too_slow,
        _classifier_leaves_too_little,
        _cannot_pay,
        _facts_do_not_belong_in_weights,
        _test_shows_too_little,
        _tuning_teaches_form,
        _values_are_copied,
        _room_to_learn,
    ),
    Rung.TUNED_RETRIEVAL: (
        _no_documents,
        _too_few_examples,
        _answers_stand_in_the_documents_already,
        _documents_do_not_answer,
        _too_slow,
        _must_say_that_nothing_is_there,
        _form_and_facts,
        _after_retrieval,
    ),
    Rung.LARGE: (_must_not_leave, _not_decided, _tokens_are_cheaper, _router_saves, _one_more_contender),
}
