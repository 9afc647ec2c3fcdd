"""Progress is told on stderr, and says how long it will take."""

from __future__ import annotations

import io

from netweight.cli._progress import LINE_EVERY_S, Bars, Lines, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_at_the_start_the_end_and_now_and_then():
    clock, stream = [0.0], io.StringIO()
    lines = Lines(stream, now=lambda: clock[0])
    for done in range(6):
        clock[0] = done * LINE_EVERY_S / 2
        lines("compress", done, 5, f"block {done}")
    assert stream.getvalue().splitlines() == [
        "compress 0/5 (block 0)",
        "compress 2/5 (block 2), 45 s left",
        "compress 4/5 (block 4), 15 s left",
        "compress 5/5 (block 5)",
    ]


def test_time_left_counts_only_what_this_run_did():
    clock, stream = [0.0], io.StringIO()
    lines = Lines(stream, now=lambda: clock[0])
    lines("compress", 90, 100)  # resumed: ninety were done before
    clock[0] = 60.0
    lines("compress", 92, 100)
    assert stream.getvalue().splitlines()[-1] == "compress 92/100, 240 s left"


def test_on_a_terminal_there_is_a_bar_for_each_kind_of_work():
    stream = Terminal()
    with shown(stream) as progress:
        assert isinstance(progress, Bars)
        progress("compress", 3, 3, "last block")
        progress("check", 1, 2)
    assert "compress" in stream.getvalue() and "3/3" in stream.getvalue() and "1/2" in stream.getvalue()


def test_nothing_is_shown_of_work_that_tells_nothing():
    for stream in (Terminal(), io.StringIO()):
        with shown(stream):
            pass
        assert stream.getvalue() == ""
