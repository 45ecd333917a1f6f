#!/usr/bin/env bash
# Install gymdbd as a systemd service, or bring an installed one up to date. Run it as root.
#
#   install.sh [--database FILE] [--archive DIR] [--user NAME] [--wheels DIR] [--dry-run]
#   install.sh --uninstall [--dry-run]
#
# --database   the live database (default /home/pi/gym-controller/instance/gym_system.db)
# --archive    where its backups go (default data/backups/database beside the database's folder)
# --user       whom the service runs as (default: the owner of the database)
# --wheels     take gymdbd and all it needs from this folder, not from a registry (no network)
# --dry-run    change nothing, print what would be done
# --uninstall  stop and remove the service and the program; configuration, status and backups stay
#
# It may be run any number of times. What is yours is written only where it is missing:
# /etc/gymdbd/config.yaml and /etc/systemd/system/gymdbd.service.d/paths.conf.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source="$(dirname "$here")"
venv=/opt/gymdbd
link=/usr/local/bin/gymdbd
config=/etc/gymdbd/config.yaml
unit=/etc/systemd/system/gymdbd.service
paths="$unit.d/paths.conf"
database=/home/pi/gym-controller/instance/gym_system.db
archive=""
user=""
group=""
wheels=""
dry_run=false
uninstall=false

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
        --database) database="$(absolute "${2:?--database needs a file}")" && shift ;;
        --archive) archive="$(absolute "${2:?--archive needs a folder}")" && shift ;;
        --user) user="${2:?--user needs a name}" && shift ;;
        --wheels) wheels="$(absolute "${2:?--wheels needs a folder}")" && shift ;;
        --dry-run) dry_run=true ;;
        --uninstall) uninstall=true ;;
        -h | --help) usage && exit 0 ;;
        *) fail "unknown argument $1 (try --help)" 2 ;;
        esac
        shift
    done
    [ -n "$archive" ] || archive="$(dirname "$(dirname "$database")")/data/backups/database"
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

# Write standard input to a file that is the user's from then on; one that is there stays.
write_once() {
    if [ -e "$1" ]; then
        echo "kept: $1"
        cat >/dev/null
    elif $dry_run; then
        echo "would write $1:"
        cat
    else
        install -d -m 755 "$(dirname "$1")"
        cat >"$1"
        chmod 644 "$1"
        echo "written: $1"
    fi
}

# Quote for YAML, and for a list of paths in a unit file.
yaml() {
    printf "'%s'" "${1//\'/\'\'}"
}

systemd_path() {
    local text="${1//\\/\\\\}"
    text="${text//\"/\\\"}"
    printf '"%s"' "${text//%/%%}"
}

# Say what is missing, and stop there unless nothing is to be done anyway.
refuse() {
    $dry_run || fail "$1"
    echo "would refuse: $1"
}

check_parts() {
    case "$database$archive" in
    *[[:cntrl:]]*) fail "a path with control characters cannot stand in a unit file" 2 ;;
    esac
    [ -z "$wheels" ] || compgen -G "$wheels/gymdbd-*.whl" >/dev/null ||
        refuse "$wheels holds no wheel of gymdbd: see deploy/README.md for how to fill it"
    [ -e "$config" ] && [ -e "$paths" ] || [ -f "$database" ] ||
        refuse "there is no database $database: name it with --database"
    settle_user
}

# Where the service is installed already, its paths.conf says whom it runs as.
settle_user() {
    local settled=""
    if [ -e "$paths" ]; then
        settled="$(sed -n 's/^User=//p' "$paths" | tail -n 1)"
        settled="${settled:-gymdbd}"
        [ "${user:-$settled}" = "$settled" ] ||
            refuse "the service runs as $settled: to change that, edit $paths"
    fi
    user="${user:-${settled:-$(stat -c %U "$database" 2>/dev/null || id -un)}}"
    id "$user" >/dev/null 2>&1 ||
        refuse "there is no user $user: adduser --system --group --home /var/lib/gymdbd $user"
    group="$(id -gn "$user" 2>/dev/null || echo "$user")"
}

install_program() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        run apt-get install -y python3-venv
    fi
    pause_service
    # The system's Python takes no packages from pip (PEP 668): gymdbd gets one of its own.
    run python3 -m venv "$venv"
    if [ -n "$wheels" ]; then
        run pip_install --no-index --find-links "$wheels" --upgrade gymdbd
        # Also where the version is the same, because it may have been built anew.
        run pip_install --no-index --find-links "$wheels" --force-reinstall --no-deps gymdbd
    else
        install_checkout
    fi
    run ln -sfn "$venv/bin/gymdbd" "$link"
}

# No run may begin while pip replaces the modules under it; one that comes due is made up for.
pause_service() {
    systemctl is-active --quiet gymdbd 2>/dev/null || return 0
    # Where pip fails, it leaves what was there, and the service goes on with that.
    $dry_run || trap 'systemctl start gymdbd' EXIT
    run systemctl stop gymdbd
}

# From a copy, because a build leaves its own files, which would be root's, beside the sources.
install_checkout() {
    local copy
    copy="$(mktemp -d)"
    cp -R "$source/gymdbd" "$source/pyproject.toml" "$source/README.md" "$copy"
    run pip_install --upgrade "$copy" || { rm -rf "$copy" && return 1; }
    rm -rf "$copy"
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --root-user-action=ignore "$@"
}

write_configuration() {
    write_once "$config" <<END
# Every key and its meaning: config.example.yaml beside this file.
status_file: /var/lib/gymdbd/status.json
jobs:
  nightly-backup:
    kind: backup
    schedule: "0 3 * * *"
    database: $(yaml "$database")
    archive: $(yaml "$archive")
    keep:
      days: 14
      count: 10
END
    run install -D -m 644 "$source/config.example.yaml" "$(dirname "$config")/config.example.yaml"
}

write_unit() {
    run install -D -m 644 "$here/systemd/gymdbd.service" "$unit"
    write_once "$paths" <<END
[Service]
# Whoever may read the database and write its -wal and -shm: see deploy/README.md.
User=$user
Group=$group

# All that the service may write besides /var/lib/gymdbd: the folder of the database, because
# SQLite keeps -wal and -shm beside it, and every archive. With the minus sign the service starts
# although a folder is missing: only the job that needs it fails.
ReadWritePaths=$(systemd_path "-$(dirname "$database")")
ReadWritePaths=$(systemd_path "-$archive")
END
}

# The missing folders of a path, as the user that is to write there.
make_archive() {
    local missing=() folder="$archive"
    while [ ! -d "$folder" ]; do
        missing=("$folder" "${missing[@]}")
        folder="$(dirname "$folder")"
    done
    if [ ${#missing[@]} -gt 0 ]; then
        run install -d -o "$user" -g "$group" -m 700 "${missing[@]}"
    fi
}

start_service() {
    trap - EXIT
    run systemctl daemon-reload
    run systemctl enable --quiet gymdbd
    # A service that gave up must not stay down for what has just been put right.
    run systemctl reset-failed gymdbd 2>/dev/null || true
    run systemctl restart gymdbd ||
        fail "gymdbd does not start: journalctl -u gymdbd -n 20 says why"
    if $dry_run; then return; fi
    echo
    setpriv --init-groups --reuid "$user" --regid "$group" -- \
        "$link" -c "$config" check || fail "gymdbd runs, but something above needs to be put right"
    echo
    echo "gymdbd runs as $user; next: gymdbd status, journalctl -u gymdbd"
}

install_service() {
    check_parts
    install_program
    # The archive of a configuration that is there already is not ours to guess.
    [ -e "$config" ] || make_archive
    write_configuration
    write_unit
    start_service
}

remove_service() {
    if systemctl cat gymdbd >/dev/null 2>&1; then
        run systemctl disable --quiet --now gymdbd
    fi
    run rm -rf "$unit" "$unit.d" "$venv" "$link"
    run systemctl daemon-reload
    echo "kept: $(dirname "$config"), /var/lib/gymdbd, and every backup"
}

read_arguments "$@"
if ! $dry_run; then
    command -v systemctl >/dev/null ||
        fail "this needs systemd (--dry-run works everywhere); for a Mac see deploy/launchd"
    [ "$(id -u)" -eq 0 ] || fail "run it as root: sudo $0"
fi
if $uninstall; then remove_service; else install_service; fi
