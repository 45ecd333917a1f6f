# shellcheck shell=bash
# What the configuration needs besides the program: extras, the network, secrets. deploy/install.sh
# reads this file on Linux.

# Ask the gymdbd that was just installed; if the configuration has an error, its check says so below.
read_needs() {
    local ask=("$venv/bin/gymdbd" -c "$config" check --needs) handed
    [ -x "$venv/bin/gymdbd" ] && [ -e "$config" ] || return 0
    if $dry_run; then
        [ "$(id -u)" -ne 0 ] || ask=(as_user "${ask[@]}")
        needs="$("${ask[@]}" 2>/dev/null)" || needs=""
        return
    fi
    # Which extra a URL needs is seen by its beginning, and only root may read the credentials: hand
    # them over as systemd does.
    handed="$(mktemp -d -p /run)"
    cp "$credentials"/* "$handed" 2>/dev/null || true
    chown -R "$user:$group" "$handed"
    needs="$(as_user env CREDENTIALS_DIRECTORY="$handed" "${ask[@]}" 2>/dev/null)" || needs=""
    rm -r "$handed"
}

# Without an extra somebody may not be told, but the backups are made: so go on, and say so at the end.
install_extras() {
    local extra
    for extra in $(wanted_extras); do
        if [ -n "$wheels" ]; then
            pip_install --no-index --find-links "$wheels" "gymdbd[$extra]" || lacking="$lacking $extra"
        else
            (install_checkout "[$extra]") || lacking="$lacking $extra"
        fi
    done
}

# The unit has no network. Leave alone what the owner has written, here or in another drop-in.
write_network() {
    local who
    who="$(needed network | paste -sd , - | sed 's/,/, /g')"
    [ -n "$who" ] || return 0
    [ -e "$network" ] || [ "$(systemctl show --property PrivateNetwork --value gymdbd 2>/dev/null)" != no ] ||
        return 0
    { echo "# The network, for: $who" && sed '/^#/d' "$here/systemd/gymdbd.service.d/network.conf.example"; } |
        write_once "$network"
}

# Let the service have the secrets that the configuration calls {credential: NAME}. A unit whose file
# is missing would not start, and make no backups: instead it gets an empty line.
write_credentials() {
    local name
    for name in $(needed credential); do
        [ -d "$credentials" ] || run install -d -m 700 "$credentials"
        if grep -qsE "^LoadCredential(Encrypted)?=$(quoted "$name")(:|\$)" "$unit.d"/*.conf; then
            echo "kept: the credential $name of $unit.d"
        else
            load_credential "$name"
        fi
        [ -e "$credentials/$name" ] || tell_secret "$name"
    done
}

# Quote a name for a regular expression.
quoted() {
    printf '%s' "$1" | sed 's/[.]/\\./g'
}

load_credential() {
    if $dry_run; then
        echo "would add LoadCredential=$1 to $loads"
        return
    fi
    # The file may end in a section of the owner's.
    printf '[Service]\nLoadCredential=%s:%s\nSetCredential=%s:\\n\n' "$1" "$credentials/$1" "$1" >>"$loads"
    chmod 644 "$loads"
    echo "added: the credential $1, to $loads"
}

tell_secret() {
    echo "there is no $credentials/$1 yet, so what needs it is not told: write the secret there" \
        "(sudo install -m 600 /dev/stdin $credentials/$1, then the secret, Enter, Ctrl-D)," \
        "then sudo systemctl restart gymdbd"
}
