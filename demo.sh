#!/bin/sh
# Installs everything in .venv and starts the demo. With a display, napari opens with
# the sample scene and the panel. Without a display, the window runs on a virtual
# display, presses Segment, and saves a screenshot and the labels in demo_output/.
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh

setup run
if headless; then
    under_xvfb .venv/bin/napari-uhrseg demo --screenshot demo_output "$@"
else
    exec .venv/bin/napari-uhrseg demo "$@"
fi
