import io

from rich.console import Console

from editsweep.run.progress import Snapshot, clock, shown


def test_rate_and_time_left():
    now = Snapshot(done=30, total=50, done_now=10, seconds=20.0, failed=2, doing="")
    assert (now.rate, now.left) == (0.5, 40.0)
    assert str(now) == "30/50 edits · 0.50 edits/s · 0:40 left · 2 failed"


def test_nothing_is_claimed_before_the_first_edit():
    now = Snapshot(done=0, total=50, done_now=0, seconds=9.0, failed=0, doing="preparing")
    assert (now.rate, now.left) == (None, None)
    assert str(now) == "0/50 edits · preparing"


def test_steps_are_counted_like_edits():
    now = Snapshot(30, 50, 10, 20.0, 0, "validation loss 1.000", unit="steps")
    assert str(now) == "30/50 steps · 0.50 steps/s · 0:40 left · validation loss 1.000"


def test_clock():
    assert [clock(s) for s in (5, 95, 3700)] == ["0:05", "1:35", "1:01:40"]


def test_elsewhere_than_on_a_terminal_there_are_plain_lines_now_and_then():
    out = io.StringIO()
    with shown(Console(file=out)) as progress:
        for done in range(101):
            progress.update(Snapshot(done, 100, done, 1.0, 0, ""))
        progress.say("[done]")
    lines = out.getvalue().splitlines()
    assert lines[-1] == "[done]"
    assert lines[-2].startswith("100/100 edits")
    assert len(lines) < 10
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_a_bar():
    out = io.StringIO()
    with shown(Console(file=out, force_terminal=True, width=100)) as progress:
        progress.update(Snapshot(5, 10, 5, 1.0, 1, ""))
    assert "5/10" in out.getvalue()
    assert "1 failed" in out.getvalue()
