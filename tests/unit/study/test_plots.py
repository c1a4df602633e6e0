"""Points in a plane: where they stand, what is marked, and that text stays text."""

from __future__ import annotations

import re

from fettle.study.plots import Axis, PlotPoint, point_plot

ACROSS, UP = Axis(label="Examples", from_zero=True), Axis(label="Score, %")


def circles(markup: str) -> list[tuple[str, float, float]]:
    found = re.findall(r'<circle class="([^"]*)" cx="([\d.]+)%" cy="([\d.]+)%"', markup)
    return [(kind, float(x), float(y)) for kind, x, y in found]


def test_points_stand_where_their_values_are() -> None:
    points = [PlotPoint(x=25, y=50, label="a"), PlotPoint(x=100, y=100, label="b")]
    (_, first_x, first_y), (_, second_x, second_y) = circles(point_plot(points, across=ACROSS, up=UP))
    assert (first_x, second_x) == (25, 100)  # from zero
    assert (first_y, second_y) == (100, 0)  # up is more
    assert "from_zero" not in point_plot(points, across=ACROSS, up=UP)


def test_the_chosen_point_is_ringed_and_what_nobody_measured_is_hollow() -> None:
    points = [PlotPoint(x=1, y=1, label="a", is_accented=True), PlotPoint(x=2, y=2, label="b", is_expected=True)]
    kinds = [kind for kind, _, _ in circles(point_plot(points, across=ACROSS, up=UP))]
    assert kinds == ["dot solid", "ring", "dot"]


def test_limits_and_intervals_stay_on_the_axes() -> None:
    points = [PlotPoint(x=-1, y=50, low=30, high=70, label="a")]
    markup = point_plot(points, across=Axis(label="Change", limit=-5, from_zero=True), up=UP)
    assert 'class="limit"' in markup
    places = [float(place) for place in re.findall(r'="(-?[\d.]+)%"', markup)]
    assert min(places) >= 0
    assert max(places) <= 100
    assert re.search(r'class="whisker" x1="80.0%" x2="80.0%"', markup)


def test_labels_are_text() -> None:
    markup = point_plot([PlotPoint(x=1, y=1, label="<b>&")], across=ACROSS, up=Axis(label='"up"'))
    assert "<b>" not in markup
    assert "&lt;b&gt;&amp;" in markup


def test_nothing_is_drawn_of_nothing() -> None:
    assert point_plot([], across=ACROSS, up=UP) == ""
