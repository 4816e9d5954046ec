#!/bin/sh
# Builds the source distribution and the wheel in dist/, and checks both.
#
# The wheel is installed in a fresh environment with each Qt binding. There it must pass
# "pip check" and the validation of napari's manifest, and run the demo without a
# checkout. dist/ also receives the licences and the bill of materials (CycloneDX) of all
# installed packages, and their versions. The environments need 8 GB for a time.
#
#   sh scripts/package.sh [pyqt6] [pyside6]      default: both
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

# shellcheck disable=SC2086
need_packages $qt_packages $xvfb_packages
need_python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "Building the packages"
rm -rf dist
"$python" -m venv "$work/tools"
tools="$work/tools/bin"
"$tools/python" -m pip install --quiet build twine pip-licenses cyclonedx-bom
"$tools/python" -m build --outdir dist . >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
"$tools/twine" check --strict dist/*

# Reports the packages of an environment with a Qt binding: licences, bill of materials,
# and versions, which are added to those of the other binding.
report() {
    "$tools/pip-licenses" --python="$1" --format=csv --with-urls \
        --output-file="dist/licences-$2.csv"
    "$tools/cyclonedx-py" environment --output-format JSON \
        --output-file "dist/sbom-$2.json" --mc-type application "$1"
    # the local version "+cpu" of torch exists in no registry
    "$1" -m pip freeze | sed -e '/napari-uhrseg/d' -e 's/+[a-z0-9]*$//' \
        >>"$work/versions"
    LC_ALL=C sort -f -u "$work/versions" >dist/constraints.txt
}

for binding in ${*:-pyqt6 pyside6}; do
    say "Installing the wheel with $binding"
    "$python" -m venv "$work/$binding"
    own="$work/$binding/bin"
    wheel=$(echo dist/*.whl)
    "$own/python" -m pip install --quiet "$wheel[$binding,slides,geopackage,cluster,onnx]"
    "$own/python" -m pip check
    "$own/npe2" validate napari-uhrseg
    (
        cd "$work"
        "$own/napari-uhrseg" --version
        QT_API=$binding under_xvfb "$own/napari-uhrseg" demo --screenshot "$work/demo"
    )
    report "$own/python" "$binding"
    rm -rf "${work:?}/$binding" "$work/demo"
done
ls -l dist
