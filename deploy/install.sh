#!/usr/bin/env bash
# Install gymdbd, or bring an installed one up to date: on Linux as a systemd service (run this as
# root), on a Mac as a launchd agent of the user who runs this, or as a LaunchDaemon.
#
#   install.sh [--database FILE] [--archive DIR] [--user NAME] [--wheels DIR] [--with notify]
#              [--dry-run]                                                      (Linux)
#   install.sh [--venv DIR] [--config FILE] [--with notify] [--dry-run]         (Mac)
#   sudo install.sh --daemon [--user NAME] [--venv DIR] [--config FILE] [--with notify]
#              [--dry-run]                                                      (Mac)
#   install.sh [--daemon] --uninstall [--dry-run]
#
# --database   the live database (default /home/pi/gym-controller/instance/gym_system.db)
# --archive    the folder for its backups (default ../data/backups/database from the database's folder)
# --user       the user that the service runs as (default: the owner of the database, or of the
#              folder where it is going to be)
# --wheels     install gymdbd and its dependencies from this folder, without a network
# --with       an extra to install beside gymdbd: notify, for the services that tell by way of
#              apprise (default: what the configuration needs)
# --venv       the virtual environment with gymdbd (default ~/.local/share/gymdbd)
# --config     its configuration (default ~/.config/gymdbd/config.yaml)
# --daemon     on a Mac: run without a login, as after a power cut, but without the SSH agent and the
#              keychain (default user: the one who typed sudo)
# --dry-run    change nothing, print what would be done
# --uninstall  remove the service or the agent; your configuration, data, backups and logs stay
#
# You can run it again at any time. It never overwrites what you may have edited: the configuration,
# and on Linux the files in /etc/systemd/system/gymdbd.service.d.
set -euo pipefail
# What is installed is for everybody to read, whatever the umask of the shell that sudo was typed in.
umask 022

# This file and launchd/agent.sh must run on the bash 3.2 of macOS.

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
repository="$(dirname "$here")"
me=install.sh
# Whether it sets up the service of the Debian package, which has the program already.
packaged=false
dry_run=false
uninstall=false
known_extras="notify ssh"
with=""
# What the configuration needs of the installation.
needs=""
# The extras that could not be installed.
lacking=""

fail() {
    echo "$me: $1" >&2
    exit "${2:-1}"
}

# Stop with a reason; in a dry run print it and go on.
refuse() {
    $dry_run || fail "$1"
    echo "would refuse: $1"
}

# Run a command; in a dry run print it.
run() {
    if $dry_run; then
        printf 'would run:'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# Print what the configuration needs of one kind (extra, network, credential), one a line, as
# `gymdbd check --needs` has it.
needed() {
    printf '%s\n' "$needs" | sed -n "s/^$1 //p"
}

# Print the extras to install: those of --with, and those that the configuration needs.
wanted_extras() {
    { printf '%s\n' "$with" | tr ',' '\n' && needed extra; } | sed '/^$/d' | sort -u
}

check_extras() {
    local extra
    for extra in $(wanted_extras); do
        case " $known_extras " in
        *" $extra "*) ;;
        *) fail "there is no extra $extra (--with takes: $known_extras)" 2 ;;
        esac
    done
}

usage() {
    sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

# Store each option's value in the variable of its name. $path_options and $other_options list the
# options of this platform.
read_arguments() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --dry-run) dry_run=true ;;
        --uninstall) uninstall=true ;;
        --daemon) [ "$platform" = Darwin ] || fail "unknown argument $1 (try --help)" 2 && daemon=true ;;
        -h | --help) usage && exit 0 ;;
        *) take "$1" "${2:-}" && shift ;;
        esac
        shift
    done
}

# Paths are made absolute: neither systemd nor launchd starts gymdbd in this folder.
take() {
    local value="$2"
    case " $path_options $other_options " in
    *" $1 "*) [ -n "$value" ] || fail "$1 needs a value (try --help)" 2 ;;
    *) fail "unknown argument $1 (try --help)" 2 ;;
    esac
    case " $path_options " in
    *" $1 "*) case "$value" in /*) ;; *) value="$PWD/$value" ;; esac ;;
    esac
    printf -v "${1#--}" '%s' "$value"
}

platform="$(uname)"
if [ "${1:-}" = --agent ]; then # from launchd/install.sh
    platform=Darwin
    shift
elif [ "${1:-}" = --packaged ]; then # from the Debian package's gymdbd-setup
    me=gymdbd-setup
    packaged=true
    shift
fi
if [ "$platform" = Darwin ]; then
    # shellcheck source-path=SCRIPTDIR source=launchd/agent.sh
    . "$here/launchd/agent.sh"
else
    # shellcheck source-path=SCRIPTDIR source=systemd/service.sh
    . "$here/systemd/service.sh"
    # shellcheck source-path=SCRIPTDIR source=systemd/needs.sh
    . "$here/systemd/needs.sh"
fi

read_arguments "$@"
$dry_run || require_platform
if $uninstall; then remove; else install_all; fi
