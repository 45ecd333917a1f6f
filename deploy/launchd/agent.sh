# shellcheck shell=bash
# The launchd agent. deploy/install.sh reads this file on a Mac.

label=io.github.gymdbd
agents="$HOME/Library/LaunchAgents"
plist="$agents/$label.plist"
logs="$HOME/Library/Logs/gymdbd"
domain="gui/$(id -u)"
# The agent may take ExitTimeOut to stop; launchd cannot start it again before that.
stop_limit_s=80

path_options="--venv --config"
other_options=""
venv="$HOME/.local/share/gymdbd"
config="$HOME/.config/gymdbd/config.yaml"

require_platform() {
    command -v launchctl >/dev/null ||
        fail "this is for macOS: there is no launchctl here (--dry-run works everywhere)"
}

# Escape a path for XML, and for the right side of sed's s|||.
escape() {
    printf '%s' "$1" |
        sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/[\\&|]/\\&/g'
}

# Print the property list with the paths filled in.
content() {
    sed -e "s|@VENV@|$(escape "$venv")|g" -e "s|@CONFIG@|$(escape "$config")|g" \
        -e "s|@HOME@|$(escape "$HOME")|g" "$here/launchd/$label.plist"
}

is_loaded() {
    launchctl print "$domain/$label" >/dev/null 2>&1
}

stop_agent() {
    if $dry_run; then
        echo "would stop the agent, if it runs: launchctl bootout $domain/$label"
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
    plutil -lint -s "$plist.new" || fail "$plist.new is not a valid property list"
    mv "$plist.new" "$plist"
}

check_parts() {
    [ -x "$venv/bin/gymdbd" ] ||
        refuse "no gymdbd in $venv: python3 -m venv '$venv' && '$venv/bin/pip' install '$repository'"
    [ -f "$config" ] || refuse "no configuration: write $config"
    # Print an error in the configuration here, not only in the agent's log.
    run "$venv/bin/gymdbd" -c "$config" schedule --count 1
}

install_all() {
    check_parts
    run mkdir -p "$agents"
    run mkdir -p -m 700 "$logs"
    write_plist
    stop_agent
    run launchctl enable "$domain/$label"
    run launchctl bootstrap "$domain" "$plist"
    $dry_run || echo "$label runs; its log is $logs/stderr.log"
}

remove() {
    stop_agent
    run rm -f "$plist"
    echo "kept: $config, $logs, and everything that gymdbd has written"
}
