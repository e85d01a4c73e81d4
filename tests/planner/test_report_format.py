"""Numbers as the report writes them."""

from __future__ import annotations

import math

import pytest

from sememe.planner import report_format


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (report_format.size(999), "999 B"),
        (report_format.size(812_345), "812 KB"),
        (report_format.size(999_700), "1.00 MB"),
        (report_format.size(4.2e13), "42.0 TB"),
        (report_format.size(-1500), "−1.50 KB"),
        (report_format.size(math.nan), "–"),
        (report_format.vector_bytes(1024), "1,024 B"),
        (report_format.vector_bytes(12.5), "12.5 B"),
        (report_format.milliseconds(0.04), "40 µs"),
        (report_format.milliseconds(0.6), "0.60 ms"),
        (report_format.milliseconds(1200), "1.20 s"),
        (report_format.seconds(125), "2 min 5 s"),
        (report_format.seconds(11_520), "3.2 h"),
        (report_format.signed(-0.0001), "0.000"),
        (report_format.signed(-0.0034), "−0.003"),
        (report_format.percent(0.02), "2 %"),
        (report_format.times(12.4, 1), "12.4×"),
        (report_format.times(1, 0), "–"),
        (report_format.metric_name("ndcg@10"), "nDCG@10"),
        (report_format.clip("one two three", 9), "one two…"),
    ],
)
def test_numbers_are_written_for_people(shown, text):
    assert shown == text
