"""Searching and answering, as charts and sentences of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from fettle.retrieval_records import LostScore, RetrievalReport, SearchQuality, Seen
from fettle.study import figures
from fettle.study.charts import IntervalMark, interval_chart


@dataclass(frozen=True, slots=True, kw_only=True)
class LossLine:
    """One contender's losses in words and as a bar."""

    sentence: str
    bar: Markup
    """Empty where no question says which documents answer it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalView:
    """What the page reads beside the record itself."""

    recall_chart: Markup
    """Empty where nothing was measured."""
    depth: int
    """Of the chart."""
    losses: tuple[LossLine, ...]
    """One for each contender that is shown passages."""


def view_retrieval(retrieval: RetrievalReport, titles: Mapping[str, str]) -> RetrievalView:
    """The charts and sentences.

    Args:
        retrieval: What was measured.
        titles: Of the contenders, by their names.
    """
    depth = _depth_shown(retrieval)
    marks = [_recall_mark(quality, depth) for quality in retrieval.qualities]
    return RetrievalView(
        recall_chart=interval_chart(marks, label=f"Recall at {depth}, %") if marks else Markup(""),
        depth=depth,
        losses=tuple(_loss_line(loss, titles.get(loss.contender, loss.contender)) for loss in retrieval.losses),
    )


def loss_sentence(loss: LostScore, title: str) -> str:
    """Where a contender loses, in one sentence."""
    by_seen = {group.seen: group for group in loss.groups}
    if not _is_known_where(loss):
        absent = by_seen[Seen.ABSENT]
        scored = "–" if absent.score is None else figures.percent(absent.score.estimate)
        return (
            f"{title} scores {scored} on {figures.counted(absent.num_questions, 'test question')} that the documents do not "
            "answer. Where it fails on others cannot be told: none says which documents answer it."
        )
    lost = [by_seen[seen].lost for seen in (Seen.MISSED, Seen.SHOWN, Seen.ABSENT)]
    total, *parts = (figures.fixed(100 * one, 1) for one in (sum(lost), *lost))
    num_questions = sum(group.num_questions for group in loss.groups)
    return (
        f"On {figures.counted(num_questions, 'test question')}, {title} lacks {total}{figures.NO_BREAK}points to a perfect score: "
        f"{parts[0]} in searching, {parts[1]} in answering what it was shown, {parts[2]} on questions that the documents do not "
        "answer."
    )


def _is_known_where(loss: LostScore) -> bool:
    """Whether some questions say which documents answer them."""
    return any(group.num_questions for group in loss.groups if group.seen is not Seen.ABSENT)


def _depth_shown(retrieval: RetrievalReport) -> int:
    """The depth at which recall was measured that is nearest to what prompts hold, the smaller of two."""
    depths = [at.depth for quality in retrieval.qualities[:1] for at in quality.recalls]
    return min(depths, key=lambda depth: (abs(depth - retrieval.num_shown), depth), default=retrieval.num_shown)


def _loss_line(loss: LostScore, title: str) -> LossLine:
    shares = (
        ("kept", 1 - loss.lost_in_search - loss.lost_in_answering),
        ("search", loss.lost_in_search),
        ("answering", loss.lost_in_answering),
    )
    if not _is_known_where(loss):
        return LossLine(sentence=loss_sentence(loss, title), bar=Markup(""))
    parts, start = [], 0.0
    for kind, share in shares:
        rect = Markup('<rect class="{kind}" x="{x}%" width="{width}%" height="100%"/>')
        parts.append(rect.format(kind=kind, x=round(100 * start, 3), width=round(100 * max(0.0, share), 3)))
        start += share
    bar = Markup('<svg class="losses" width="100%" height="10" aria-hidden="true" focusable="false">{parts}</svg>')
    return LossLine(sentence=loss_sentence(loss, title), bar=bar.format(parts=Markup("").join(parts)))


def _recall_mark(quality: SearchQuality, depth: int) -> IntervalMark:
    recall = next(at.recall for at in quality.recalls if at.depth == depth)
    return IntervalMark(
        title=quality.method,
        note="used" if quality.is_used else "",
        low=100 * recall.low,
        estimate=100 * recall.estimate,
        high=100 * recall.high,
        value=figures.fixed(100 * recall.estimate, 1),
        bounds=figures.percent_range(recall),
        is_accented=quality.is_used,
        is_solid=quality.is_used,
    )
