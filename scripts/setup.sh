# Creates .venv in the checkout. demo.sh, test.sh and .ci/run source this file.
#
#   setup run|test|dev   installs the program (run), also the test tools (test),
#                        also the development tools (dev)
#   headless             returns true if there is no display for a window
#
# The calling script must use "set -e", so that an error ends it.
# The script supports Debian 12; on other systems it only names missing packages.
# PYTHON selects the interpreter (default: the first python3 that is new enough).

qt_packages="libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libdbus-1-3
libfontconfig1 libglib2.0-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1
libxcb-shape0"
xvfb_packages="xvfb xauth"

say() { printf '%s\n' "$*" >&2; }

stop() {
    say "$*"
    exit 1
}

headless() { [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; }

# Runs a command under Xvfb. The screen is large enough for the whole window, and
# temporary napari settings replace those of the user.
under_xvfb() {
    settings=$(mktemp -d)
    status=0
    env -u WAYLAND_DISPLAY QT_QPA_PLATFORM=xcb \
        NAPARI_CONFIG="$settings/settings.yaml" \
        xvfb-run -a -s "-screen 0 1600x1000x24" "$@" || status=$?
    rm -rf "$settings"
    return $status
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || return 1
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# Prints the packages among the arguments that dpkg does not list as installed.
missing_packages() {
    for package in "$@"; do
        dpkg -s "$package" 2>/dev/null | grep -q '^Status: .* installed$' ||
            echo "$package"
    done
}

install_packages() {
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        as_root="sudo -n"
        if ! sudo -n true 2>/dev/null; then
            say "System packages are missing. Install them as root:"
            stop "  sudo apt-get install -y --no-install-recommends" "$@"
        fi
    fi
    say "Installing system packages: $*"
    $as_root apt-get update -qq >&2
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >&2
}

need_packages() {
    if command -v dpkg >/dev/null && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2046,SC2086 # lists of words
        missing=$(missing_packages "$@")
        # shellcheck disable=SC2086
        [ -z "$missing" ] || install_packages $missing
    elif ! command -v xvfb-run >/dev/null && headless; then
        stop "There is no display. Install Xvfb (xvfb-run) with your package manager."
    fi
}

need_python() {
    python=$(find_python) || {
        [ -z "${PYTHON:-}" ] || stop "PYTHON=$PYTHON is not Python 3.11 or newer."
        need_packages python3 python3-venv
        python=$(find_python) ||
            stop "Python 3.11 or newer is needed. Set PYTHON to its path."
    }
    # Debian packages venv separately from python3
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        need_packages python3-venv
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            stop "$python cannot create virtual environments: its venv module is missing."
    fi
}

install_python_packages() {
    say "Installing the Python packages into .venv. The first installation takes"
    say "several minutes, because torch has several gigabytes."
    new_enough .venv/bin/python || "$python" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
    groups=""
    [ "$1" = run ] || groups="--group $1"
    extras=pyqt6,slides
    [ "$1" != dev ] || extras=$extras,docs
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --quiet --editable ".[$extras]" $groups
}

# Returns true if .venv contains the set $1 or a larger set of the current pyproject.toml.
is_ready() {
    .venv/bin/python -c '' 2>/dev/null || return 1
    case $1 in
    run) larger="run test dev" ;;
    test) larger="test dev" ;;
    *) larger="dev" ;;
    esac
    for set in $larger; do
        [ "$(cat ".venv/.ready-$set" 2>/dev/null)" != "$state" ] || return 0
    done
    return 1
}

setup() {
    packages=$qt_packages
    if [ "$1" != run ] || headless; then
        packages="$packages $xvfb_packages"
    fi
    # shellcheck disable=SC2086
    need_packages $packages
    state="$(cksum <pyproject.toml) $(pwd)"
    if ! is_ready "$1"; then
        need_python
        install_python_packages "$1"
        echo "$state" >".venv/.ready-$1"
    fi
}
