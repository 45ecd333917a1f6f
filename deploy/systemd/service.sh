# shellcheck shell=bash
# The systemd service. deploy/install.sh reads this file on Linux.

venv=/opt/gymdbd
link=/usr/local/bin/gymdbd
manual=/usr/local/share/man/man1/gymdbd.1
config=/etc/gymdbd/config.yaml
unit=/etc/systemd/system/gymdbd.service
paths="$unit.d/paths.conf"
network="$unit.d/network.conf"
loads="$unit.d/credentials.conf"
credentials=/etc/gymdbd/credentials
peers=/var/lib/gymdbd-peers

# How pip says it, in its several releases.
no_network="connection broken|new connection|name resolution|unreachable|timed out|failed to connect"

packaged_unit=/usr/lib/systemd/system/gymdbd.service

path_options="--database --archive --wheels"
other_options="--user --with"
if $packaged; then
    path_options="--database --archive"
    other_options="--user"
    link=/usr/bin/gymdbd
fi
database=""
archive=""
wheels=""
user=""
group=""

require_platform() {
    command -v systemctl >/dev/null ||
        fail "this system has no systemd, which the service needs (--dry-run works everywhere)"
    [ "$(id -u)" -eq 0 ] || fail "run it as root: sudo $($packaged && echo $me || echo "$0")"
}

# The files of a package are dpkg's: two installations in one place would break each other.
refuse_packaged() {
    [ ! -e "$packaged_unit" ] ||
        refuse "gymdbd is installed as a Debian package, which apt upgrades and removes (sudo apt remove gymdbd); sudo gymdbd-setup sets its service up"
}

# Write standard input to a file that the user may edit later: an existing file stays as it is.
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

# Quote a path for YAML.
yaml() {
    printf "'%s'" "${1//\'/\'\'}"
}

# Quote a path for a unit file.
systemd_path() {
    local text="${1//\\/\\\\}"
    text="${text//\"/\\\"}"
    printf '"%s"' "${text//%/%%}"
}

check_parts() {
    database="${database:-$(configured_database)}"
    database="${database:-/home/pi/gym-controller/instance/gym_system.db}"
    [ -n "$archive" ] || archive="$(dirname "$(dirname "$database")")/data/backups/database"
    case "$database$archive" in
    *[[:cntrl:]]*) fail "a unit file cannot hold a path with control characters" 2 ;;
    esac
    [ -z "$wheels" ] || compgen -G "$wheels/gymdbd-*.whl" >/dev/null ||
        refuse "$wheels has no wheel of gymdbd: deploy/README.md shows how to build them"
    check_extras
    settle_user
}

# Print the database that an existing configuration names first.
configured_database() {
    [ -e "$config" ] || return 0
    sed -n "s/^ *database: *\(['\"]\{0,1\}\)\(.*\)\1 *$/\2/p" "$config" | head -n 1 | sed "s/''/'/g"
}

# Print the nearest folder of a path that is there, or the path itself.
nearest() {
    local there="$1"
    while [ ! -e "$there" ]; do there="$(dirname "$there")"; done
    printf '%s' "$there"
}

owner_of() {
    stat -L -c %U "$(nearest "$1")"
}

# An installed service keeps the user that its paths.conf names. Only root gives way to the owner: a
# database that somebody had copied as root is no reason to be root for ever.
settle_user() {
    local settled="" owner
    owner="$(owner_of "$database")"
    if [ -e "$paths" ]; then
        settled="$(sed -n 's/^User=//p' "$paths" | tail -n 1)"
        settled="${settled:-gymdbd}"
        if [ "$settled" = root ] && [ "${user:-$owner}" = "$owner" ]; then settled="$owner"; fi
        [ "${user:-$settled}" = "$settled" ] ||
            refuse "the service runs as $settled: to change that, edit $paths"
    elif [ ! -e "$database" ] && [ "${user:-$owner}" = root ]; then
        refuse "there is no database $database: name yours with --database (if it is still to come, --user says whose it will be)"
    fi
    user="${user:-${settled:-$owner}}"
    id "$user" >/dev/null 2>&1 ||
        refuse "there is no user $user: adduser --system --group --home /var/lib/gymdbd $user"
    group="$(id -gn "$user" 2>/dev/null || echo "$user")"
}

as_user() {
    setpriv --init-groups --reuid "$user" --regid "$group" -- "$@"
}

install_program() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        run apt-get install -y python3-venv ||
            fail "apt-get could not install python3-venv, which is needed with --wheels, too: see above"
    fi
    pause_service
    # pip may not install into the system's Python (PEP 668), so gymdbd gets an environment.
    run python3 -m venv "$venv"
    if [ -n "$wheels" ]; then
        pip_install --no-index --find-links "$wheels" --upgrade "gymdbd$(extra)"
        # The wheel may have been rebuilt under the same version.
        pip_install --no-index --find-links "$wheels" --force-reinstall --no-deps gymdbd
    else
        install_checkout "$(extra)"
    fi
    run ln -sfn "$venv/bin/gymdbd" "$link"
    run install -d "$(dirname "$manual")"
    run ln -sfn "$venv/share/man/man1/gymdbd.1" "$manual"
}

is_32_bit_arm() {
    case "$(uname -m) $(python3 -c 'import struct; print(struct.calcsize("P"))')" in
    "arm"*" 4" | "aarch64 4") ;;
    *) return 1 ;;
    esac
}

# On 32-bit ARM, pulls need what only piwheels has, or a folder that was filled from there.
extra() {
    is_32_bit_arm || return 0
    if [ -n "$wheels" ]; then
        compgen -G "$wheels/[Pp]y[Nn]a[Cc]l-*_armv*.whl" >/dev/null || return 0
    else
        grep -qs piwheels /etc/pip.conf || return 0
    fi
    echo "[ssh]"
}

# No run may start while pip replaces gymdbd's modules. Runs that come due are made up afterwards.
pause_service() {
    systemctl is-active --quiet gymdbd 2>/dev/null || return 0
    # If pip fails, it leaves the old version in place: start that again.
    $dry_run || trap 'systemctl start gymdbd' EXIT
    run systemctl stop gymdbd
}

# Install it, with an extra or "". Build in a copy: a build writes files beside the sources, and here they would belong to root.
install_checkout() {
    local copy failed=false
    copy="$(mktemp -d)"
    cp -R "$repository/gymdbd" "$repository/deploy" "$repository/pyproject.toml" "$repository/README.md" "$copy"
    pip_install --upgrade "$copy$1" 2>"$copy/errors" || failed=true
    if $failed && grep -qiE "$no_network" "$copy/errors"; then
        rm -rf "$copy"
        fail "pip cannot reach the package index: connect this machine to a network, or use --wheels (deploy/README.md)"
    fi
    cat "$copy/errors" >&2
    rm -rf "$copy"
    ! $failed || fail "pip could not install gymdbd: its messages are above"
}

pip_install() {
    local as=()
    # Under a 64-bit kernel a 32-bit Python believes it is on aarch64, where pip wants other packages.
    # PyYAML, which comes as source, would first translate a part to C that nothing here uses.
    if is_32_bit_arm; then as=(setarch linux32 env PYYAML_FORCE_LIBYAML=0); fi
    run "${as[@]}" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --root-user-action=ignore "$@"
}

write_configuration() {
    write_once "$config" <<END
# config.example.yaml beside this file explains every key.
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
    # In the package it is there, as a link.
    $packaged || run install -D -m 644 "$repository/config.example.yaml" "$(dirname "$config")/config.example.yaml"
}

write_paths() {
    write_once "$paths" <<END
[Service]
# This user must be able to read the database and write its -wal and -shm: see deploy/README.md.
User=$user
Group=$group

# The folders that the service may write besides /var/lib/gymdbd: the folder of the database,
# because SQLite keeps -wal and -shm there, and every archive. The minus sign lets the service start
# if a folder is missing; only the job that needs it then fails.
ReadWritePaths=$(systemd_path "-$(dirname "$database")")
ReadWritePaths=$(systemd_path "-$archive")
END
}

# Create the missing folders of the archive's path. They belong to the service's user, who makes them
# as far as possible: root would follow a link that another user has put into the path.
make_archive() {
    local there rest first owner
    [ ! -d "$archive" ] || return 0
    if $dry_run; then
        echo "would make $archive as $user"
        return
    fi
    there="$(nearest "$archive")"
    rest="${archive#"${there%/}/"}"
    first="${archive%"$rest"}${rest%%/*}"
    owner="$(stat -L -c %U "$there")"
    if ! as_user test -w "$there"; then
        # The application's user, or root in a folder of its own, makes the first and gives it away.
        [ "$owner" != root ] && [ "$owner" = "$(owner_of "$database")" ] || only_roots "$there" ||
            fail "$user may not make $archive: make it, and give it to $user (chown)"
        setpriv --init-groups --reuid "$owner" --regid "$(id -gn "$owner")" -- mkdir -m 700 "$first"
        chown -h --from="$owner" "$user:$group" "$first"
    fi
    (umask 077 && as_user mkdir -p "$archive") || fail "$user may not make $archive: see above"
}

# `gymdbd serve --peer NAME`, which runs as the owner of the database, notes there when NAME came.
make_peers() {
    local owner
    owner="$(owner_of "$database")"
    [ -d "$peers" ] || run install -d -o "$owner" -g "$(id -gn "$owner")" -m 755 "$peers"
}

# Say whether nobody but root can have made a part of this path.
only_roots() {
    local at="$1"
    while [ "$(stat -c %u "$at")" -eq 0 ]; do
        [ "$at" != / ] || return 0
        at="$(dirname "$at")"
    done
    return 1
}

# Let the service be the database's owner from now on, if settle_user has found that.
leave_root() {
    grep -qs '^User=root$' "$paths" && [ "$user" != root ] || return 0
    run sed -i "s/^User=root\$/User=$user/;s/^Group=root\$/Group=$group/" "$paths"
    echo "changed: $paths: the service runs as $user, who owns $database, and no longer as root;" \
        "give each archive that root has made to $user, too (chown -R $user:$group ARCHIVE)"
}

start_service() {
    trap - EXIT
    run systemctl daemon-reload
    run systemctl enable --quiet gymdbd
    # After too many failed starts systemd would refuse to start it, although it is repaired now.
    run systemctl reset-failed gymdbd 2>/dev/null || true
    run systemctl restart gymdbd ||
        fail "gymdbd does not start: journalctl -u gymdbd -n 20 shows why"
    if $dry_run; then return; fi
    echo
    if ! as_user "$link" -c "$config" check; then
        [ ! -e "$database" ] || fail "gymdbd runs, but the check above found an error: correct it"
        echo
        echo "there is no $database yet: once it is there, type systemctl restart gymdbd"
    fi
    echo
    if is_32_bit_arm && ! compgen -G "$venv/lib/python3.*/site-packages/paramiko" >/dev/null; then
        echo "gymdbd pulls nothing on this machine, which has no piwheels; everything else works"
    fi
    [ -z "$lacking" ] || fail "gymdbd runs, but pip could not install what it needs for:$lacking (its messages are above): connect this machine to a network or put it into the folder of --wheels (deploy/README.md), then run this again"
    echo "gymdbd runs as $user; next: gymdbd status, journalctl -u gymdbd"
    [ "$user" != root ] || echo "(if $database was copied as root, give it to the application's user" \
        "and run this again: root is more than a backup needs)"
}

install_all() {
    $packaged || refuse_packaged
    check_parts
    $packaged || install_program
    # An existing configuration may name another archive.
    [ -e "$config" ] || make_archive
    make_peers
    write_configuration
    $packaged || run install -D -m 644 "$here/systemd/gymdbd.service" "$unit"
    write_paths
    leave_root
    read_needs
    # The package has them all.
    $packaged || install_extras
    write_network
    write_credentials
    start_service
}

remove() {
    ! $packaged || fail "the package is removed by: sudo apt remove gymdbd" 2
    refuse_packaged
    if systemctl cat gymdbd >/dev/null 2>&1; then
        run systemctl disable --quiet --now gymdbd
    fi
    run rm -rf "$unit" "$unit.d" "$venv" "$link" "$manual"
    [ ! -d "$peers" ] || run rmdir --ignore-fail-on-non-empty "$peers"
    run systemctl daemon-reload
    echo "kept: $(dirname "$config"), /var/lib/gymdbd, and every backup"
}
