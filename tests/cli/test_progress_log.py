"""Progress of commands whose output is not a terminal."""

from napari_uhrseg.cli.console import ProgressLog


def test_progress_log_writes_a_line_in_each_interval():
    lines, now = [], [100.0]
    log = ProgressLog(lines.append, interval_s=60.0, clock=lambda: now[0])
    for seconds in range(0, 200, 20):
        now[0] = 100.0 + seconds
        log.report("Training", f"{seconds} of 900", "10 min left")
    log.report("Training", "200 of 900", "")
    assert lines == [
        f"Training: {seconds} of 900, 10 min left" for seconds in (60, 120, 180)
    ]
    now[0] = 400.0
    log.report("Exporting", "50%", "")
    assert lines[-1] == "Exporting: 50%"
