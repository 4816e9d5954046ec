#!/bin/sh
# Sets everything up and shows the main job. With a display: napari opens with
# the sample scene and the panel ready. Without one: the same window runs unseen,
# Segment is pressed, and a screenshot and the labels are left in demo_output/.
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh

setup run
if headless; then
    under_xvfb .venv/bin/napari-uhrseg demo --screenshot demo_output "$@"
else
    exec .venv/bin/napari-uhrseg demo "$@"
fi
