#!/usr/bin/env bash
# Install gymdbd as a launchd agent of the user who runs this, or start it anew after an update.
#
#   install.sh [--venv DIR] [--config FILE] [--dry-run]
#   install.sh --uninstall [--dry-run]
#
# --venv       the virtual environment that gymdbd is installed in (default ~/.local/share/gymdbd)
# --config     its configuration (default ~/.config/gymdbd/config.yaml)
# --dry-run    change nothing, print what would be done
# --uninstall  stop and remove the agent; configuration, replicas, archives and logs stay
#
# It may be run any number of times. Runs on the bash 3.2 of macOS.
set -euo pipefail

label=io.github.gymdbd
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="$HOME/.local/share/gymdbd"
config="$HOME/.config/gymdbd/config.yaml"
agents="$HOME/Library/LaunchAgents"
plist="$agents/$label.plist"
logs="$HOME/Library/Logs/gymdbd"
domain="gui/$(id -u)"
dry_run=false
uninstall=false
# The daemon may take ExitTimeOut to stop; before that it cannot be started anew.
stop_limit_s=80

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

usage() {
    sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --venv) venv="$(absolute "${2:?--venv needs a folder}")" && shift ;;
        --config) config="$(absolute "${2:?--config needs a file}")" && shift ;;
        --dry-run) dry_run=true ;;
        --uninstall) uninstall=true ;;
        -h | --help) usage && exit 0 ;;
        *) fail "unknown argument $1 (try --help)" 2 ;;
        esac
        shift
    done
}

absolute() {
    case "$1" in
    /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$PWD" "$1" ;;
    esac
}

# Run a command, or print it.
run() {
    if $dry_run; then
        printf 'would run:'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# Make a path fit for the plist, and for the right side of sed's s|||.
escape() {
    printf '%s' "$1" |
        sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/[\\&|]/\\&/g'
}

content() {
    sed -e "s|@VENV@|$(escape "$venv")|g" -e "s|@CONFIG@|$(escape "$config")|g" \
        -e "s|@HOME@|$(escape "$HOME")|g" "$here/$label.plist"
}

is_loaded() {
    launchctl print "$domain/$label" >/dev/null 2>&1
}

stop_agent() {
    if $dry_run; then
        echo "would stop the agent if it runs: launchctl bootout $domain/$label"
        return
    fi
    is_loaded || return 0
    launchctl bootout "$domain/$label" || true
    local waited=0
    while is_loaded; do
        [ "$waited" -lt "$stop_limit_s" ] || fail "$label does not stop: see $logs/stderr.log"
        sleep 1
        waited=$((waited + 1))
    done
}

write_plist() {
    if $dry_run; then
        echo "would write $plist:"
        content
        return
    fi
    content >"$plist.new"
    plutil -lint -s "$plist.new" || fail "$plist.new is not a property list"
    mv "$plist.new" "$plist"
}

check_parts() {
    local problem=""
    [ -x "$venv/bin/gymdbd" ] || problem="no gymdbd in $venv: python3 -m venv '$venv' && '$venv/bin/pip' install '${here%/deploy/launchd}'"
    [ -f "$config" ] || problem="${problem:+$problem; }no configuration: write $config"
    if [ -n "$problem" ]; then
        $dry_run || fail "$problem"
        echo "would refuse: $problem"
        return
    fi
    # A fault in the configuration is better seen here than in a log.
    run "$venv/bin/gymdbd" -c "$config" schedule --count 1
}

install_agent() {
    check_parts
    run mkdir -p "$agents"
    run mkdir -p -m 700 "$logs"
    write_plist
    stop_agent
    run launchctl enable "$domain/$label"
    run launchctl bootstrap "$domain" "$plist"
    $dry_run || echo "$label runs; its log is $logs/stderr.log"
}

remove_agent() {
    stop_agent
    run rm -f "$plist"
    echo "kept: $config, $logs, and everything that gymdbd has written"
}

read_arguments "$@"
if ! $dry_run && ! command -v launchctl >/dev/null; then
    fail "this is for macOS: there is no launchctl here (--dry-run works everywhere)"
fi
if $uninstall; then remove_agent; else install_agent; fi
