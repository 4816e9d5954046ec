"""States of the Segment panel.

The panel is a state machine. `SegmentPanel.state` is its state, and
`SegmentPanel._render` sets every widget that depends on the state::

                       another task runs
      BLOCKED <-------------------------- PLANNING, INCOMPLETE, READY
         |                                   ^
         +---- the other task has ended -----+

      PLANNING ---- plan made ----> READY ---- Segment pressed ----> PREPARING
         ^  |                       ^  ^                              |    |
         |  +-- no plan --> INCOMPLETE |   cancelled or failed        |    |
         |                     |       +------------------------------+    |
         +--- form changed ----+       |                                prepared
              (or READY)               |   run ended                       v
                                       +------------------------------- RUNNING

When the form has changed during a run, the run's end leads to PLANNING instead of
READY. ``segment_again()`` leads to RUNNING directly.
"""

from enum import Enum


class SegmentState(Enum):
    """State of the Segment panel; the module docstring has the transitions."""

    BLOCKED = "another task runs"
    INCOMPLETE = "no plan is possible with the form as it is"
    PLANNING = "the plan is being made"
    READY = "a run can start"
    PREPARING = "the output is being checked before the run"
    RUNNING = "a run is in progress or paused"


BUSY = (SegmentState.PREPARING, SegmentState.RUNNING)
