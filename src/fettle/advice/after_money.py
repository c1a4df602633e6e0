"""After a study: money, the router, and what comes once something is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from fettle.advice.finished import Finished
from fettle.advice.quoted import step
from fettle.advice_records import Command, Measurement, NextStep
from fettle.records import Decision
from fettle.study.economics_words import at_least


def money_step(study: Finished) -> Iterator[NextStep]:
    """What would have to change for tuning to pay, or when it has."""
    money, quoted = study.report.economics, study.quoted
    if money is None:
        return
    for number, one in enumerate(money.break_evens):
        place, other = f"economics.break_evens[{number}]", study.title(one.opponent)
        share = quoted.share(
            f"{place}.band.share_within_horizon",
            "draws in which it pays within the horizon",
            one.band.share_within_horizon,
        )
        if one.num_days is not None:
            days = quoted.counted(f"{place}.num_days", "until it has paid", round(one.num_days), "day")
            if study.report.verdict.decision is Decision.SHIP:
                text = f"Tuning pays for itself against {other}."
                yield step(
                    "Check the assumptions about money, then go on", (text, days, share), commands=(_cost(study),)
                )
            continue
        ways: list[Measurement] = []
        changes: list[str] = []
        if one.requests_per_day_to_pay is not None:
            needed = one.requests_per_day_to_pay
            ways.append(quoted.requests(f"{place}.requests_per_day_to_pay", "traffic from which it pays", needed))
            changes += ["--set", f"traffic.requests_per_day={_at_least(needed)}"]
        if one.cost_per_wrong_answer_to_pay is not None:
            title = "cost of a wrong answer from which it pays"
            cost = one.cost_per_wrong_answer_to_pay
            ways.append(quoted.money(f"{place}.cost_per_wrong_answer_to_pay", title, cost, money.assumptions.currency))
            if not changes:
                changes += ["--set", f"worth.cost_per_wrong_answer={_at_least(cost)}"]
        text = f"Against {other} tuning never pays at these assumptions: {one.reason}."
        title = "Say what traffic and errors really are" if ways else "Do not tune to save money"
        yield step(title, (text, share, *ways), commands=(_cost(study, *changes),) if changes else ())


def _at_least(value: float) -> str:
    """As it is written on the command line.

    >>> _at_least(74_117.6), _at_least(0.0000123), _at_least(3.0)
    ('75000', '0.000013', '3')
    """
    return f"{Decimal(repr(at_least(value))).normalize():f}"


def _cost(study: Finished, *changes: str) -> Command:
    return Command(purpose="work it out with your own figures", words=("fettle", "cost", str(study.folder), *changes))


def router_step(study: Finished) -> Iterator[NextStep]:
    """Whether a router is worth it."""
    routing, quoted = study.report.routing, study.quoted
    if routing is None:
        return
    target = quoted.share("routing.target", "quality to be kept", routing.target)
    if not routing.is_promised or routing.rule.threshold is None:
        yield step(
            "Calibrate a router on more test examples, or with a lower target",
            (
                "The target cannot be promised, and everything would go to the large model.",
                target,
                quoted.counted(
                    "routing.num_calibrated", "examples it was calibrated on", routing.num_calibrated, "example"
                ),
                quoted.counted("routing.num_needed", "needed at the very least", routing.num_needed, "example"),
            ),
        )
        return
    share = quoted.interval_share("routing.share_to_large", "sent to the large model", routing.share_to_large)
    quality = quoted.interval_share("routing.quality", "quality of the whole", routing.quality)
    saving = None if routing.costs is None else routing.costs.saving(routing.share_to_large.estimate)
    saved = (
        [] if saving is None else [quoted.share("routing.costs", "saved of what the large model alone costs", saving)]
    )
    worthwhile = saving is None or saving > 0
    title = (
        "Send only the hard requests to the large model"
        if worthwhile
        else "Ask the large model alone, without a router"
    )
    text = (
        "A router keeps the target."
        if worthwhile
        else "A router keeps the target, and costs more than the large model alone."
    )
    yield step(title, (text, target, share, quality, *saved))


def looks_step(study: Finished) -> Iterator[NextStep]:
    """Test questions that were looked at before."""
    looks = study.report.provenance.num_test_looks
    if looks < 2:
        return
    found = study.quoted.counted(
        "provenance.num_test_looks", "studies that have seen these test questions", looks, "study"
    )
    yield step(
        "Take fresh test examples for the next study",
        ("Each further look at the same test questions makes the intervals wider.", found),
    )


def watch_step(study: Finished) -> Iterator[NextStep]:
    """After shipping, the world moves on."""
    if study.report.verdict.decision is not Decision.SHIP:
        return
    quoted = study.quoted
    tested = quoted.counted(
        "num_examples.test", "test examples that stand for your traffic", len(study.report.rows), "example"
    )
    made = quoted.words("provenance.created_at", "as it was on", study.report.provenance.created_at[:10])
    yield step(
        "Watch whether traffic stays what was tested",
        ("The verdict is about requests like the test examples.", tested, made),
        commands=(
            Command(
                purpose="keep requests of a key for a while",
                words=("fettle", "keys", "keep-traffic", "KEY", "--days", "30"),
            ),
            Command(
                purpose="raise an alarm when they move away",
                words=("fettle", "traffic", "drift", "--train", "FILE", "--test", "FILE"),
            ),
        ),
    )
