"""Charts put values where they belong, keep their axes in common, and escape their texts."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.report_records import LengthHistogram, LossPoint
from fettle.study.charts import (
    MAX_CURVE_POINTS,
    IntervalMark,
    histogram_charts,
    interval_chart,
    linear_scale,
    log_scale,
    loss_chart,
    outcome_bar,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(numbers, numbers)
def test_a_linear_scale_holds_its_values_between_few_round_ticks(one, other):
    low, high = min(one, other), max(one, other)
    scale = linear_scale(low, high)
    assert 2 <= len(scale.ticks) <= 7
    assert 0 <= scale.position(low) <= scale.position(high) <= 100
    assert list(scale.ticks) == sorted(set(scale.ticks))


@given(st.floats(1e-6, 1e3), st.floats(21, 1e6))
def test_a_log_scale_has_evenly_spread_powers(low, ratio):
    scale = log_scale(low, low * ratio)
    assert scale.position(low * math.sqrt(ratio)) == pytest.approx(50, abs=0.01)
    assert scale.ticks


def mark(title="Tuned", low=70.0, estimate=75.0, high=80.0):
    return IntervalMark(title=title, note="", low=low, estimate=estimate, high=high, value="75.0", bounds="70 to 80")


def test_all_lines_of_an_interval_chart_share_one_axis():
    chart = interval_chart([mark(), mark(low=20, estimate=40, high=60)], label="Score, %")
    grids = re.findall(r'class="track".*?</svg>', chart)
    places = [re.findall(r'class="grid" x1="([\d.]+)%', grid) for grid in grids]
    assert places[0] == places[1]
    assert [re.search(r'cx="([\d.]+)%', grid)[1] for grid in grids] == ["91.667", "33.333"]


def test_differences_keep_zero_in_sight():
    chart = interval_chart([mark(low=2, estimate=3, high=4)], label="Difference, points", zero_line=True)
    assert chart.count('class="zero"') == 1
    assert 'class="zero" x1="0.0%"' in chart


def test_an_interval_without_width_and_a_chart_without_marks_can_be_drawn():
    assert "nan" not in interval_chart([mark(low=100, estimate=100, high=100)], label="Score")
    assert interval_chart([], label="Score")


def test_titles_are_escaped():
    chart = interval_chart([mark(title="<script>&\"'")], label="<b>")
    assert "<script>" not in chart
    assert "<b>75" in chart
    assert '<b>"' not in chart


def points(losses, valid=()):
    valid = dict(valid)
    return tuple(
        LossPoint(step=step, epoch=step / 10, train_loss=loss, valid_loss=valid.get(step))
        for step, loss in enumerate(losses, start=1)
    )


def test_the_best_step_is_marked_where_it_is():
    chart = loss_chart(points([4.0, 3.0, 2.0, 2.0], {2: 3.0, 4: 2.0}), best_step=2, num_steps=4)
    assert 'class="best" x1="50.0%"' in chart
    assert 'class="ring" cx="50.0%" cy="25.0%"' in chart
    assert "Best step 2 with validation loss 3.00." in chart


def test_a_long_run_is_thinned_to_means():
    chart = loss_chart(points([1.0, 3.0] * 4800, {1: 4.0}), best_step=1, num_steps=9600)
    places = re.search(r'class="curve train" points="([^"]*)"', chart)[1].split()
    assert len(places) <= MAX_CURVE_POINTS
    assert {place.split(",")[1] for place in places} == {"50"}


def test_a_loss_that_falls_far_gets_a_logarithmic_axis_and_a_zero_loss_does_not():
    assert "logarithmic" in loss_chart(points([5.0, 0.01]), best_step=2, num_steps=2)
    assert "logarithmic" not in loss_chart(points([5.0, 0.0]), best_step=2, num_steps=2)


def test_no_losses_no_chart():
    assert loss_chart((), best_step=0, num_steps=0) == ""
    assert loss_chart(points([1.0]), best_step=0, num_steps=0)


def test_outcomes_fill_the_bar_in_their_shares():
    assert re.findall(r'<rect[^>]*width="([\d.]+)%"', outcome_bar(1, 2, 1)) == ["25.0", "50.0", "25.0"]
    assert "0 wins, 0 ties, 0 losses" in outcome_bar(0, 0, 0)


def test_histograms_share_their_height_and_show_the_wanted_lengths():
    histogram = LengthHistogram(bin_edges=(0, 10, 20), counts_by_series={"tuned": (2, 0), "wanted": (1, 4)})
    chart = histogram_charts(histogram, titles={"tuned": "Tuned"}, accented="tuned")
    assert 'y="50.0%" width="42.0%" height="50.0%"' in chart
    assert chart.count('class="outline"') == 1
    assert "0 to 10 words: 2" in chart
