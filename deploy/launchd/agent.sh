# shellcheck shell=bash
# The launchd agent, or with --daemon the LaunchDaemon. deploy/install.sh reads this file on a Mac.

label=io.github.gymdbd
# The job may take ExitTimeOut to stop; launchd cannot start it again before that.
stop_limit_s=80
# What launchctl answers if nobody is logged in at the screen: there is no domain for the agent.
no_session="125 113"

path_options="--venv --config"
other_options="--user --with"
venv=""
config=""
user=""
daemon=false

require_platform() {
    command -v launchctl >/dev/null ||
        fail "this is for macOS: there is no launchctl here (--dry-run works everywhere)"
}

# Decide as whom, and where, the job runs.
choose_domain() {
    home="$HOME"
    agents="$home/Library/LaunchAgents"
    domain="gui/$(id -u)"
    if $daemon; then
        choose_user
        agents="${DESTDIR:-}/Library/LaunchDaemons"
        domain=system
    elif [ -n "$user" ]; then
        fail "--user goes with --daemon: an agent runs as the user who installs it" 2
    fi
    plist="$agents/$label.plist"
    logs="$home/Library/Logs/gymdbd"
    [ -n "$venv" ] || venv="$home/.local/share/gymdbd"
    [ -n "$config" ] || config="$home/.config/gymdbd/config.yaml"
}

# A LaunchDaemon is installed by root, and runs as the user who typed sudo.
choose_user() {
    user="${user:-${SUDO_USER:-}}"
    [ "$(id -u)" -eq 0 ] || refuse "--daemon needs root: sudo deploy/install.sh --daemon"
    case "$user" in
    "" | root) fail "as whom shall it run? Use sudo from that account, or --user NAME (not root)" 2 ;;
    esac
    id -u "$user" >/dev/null || fail "there is no user $user" 2
    home="$(dscl . -read "/Users/$user" NFSHomeDirectory 2>/dev/null | sed 's/^[^:]*: *//')"
    [ -n "$home" ] || refuse "dscl does not know the home folder of $user"
}

# Run a command as the user of the job.
as_user() {
    if $daemon; then run sudo -u "$user" "$@"; else run "$@"; fi
}

# Escape a path for XML, and for the right side of sed's s|||.
escape() {
    printf '%s' "$1" |
        sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/[\\&|]/\\&/g'
}

# Print the property list with the paths filled in.
content() {
    sed -e "s|@VENV@|$(escape "$venv")|g" -e "s|@CONFIG@|$(escape "$config")|g" \
        -e "s|@HOME@|$(escape "$home")|g" "$here/launchd/$label.plist" |
        if $daemon; then named; else cat; fi
}

# Add the user, and the home folder, which launchd gives to agents only.
named() {
    sed -e "s|^	<key>RunAtLoad</key>|	<key>UserName</key>\\
	<string>$(escape "$user")</string>\\
&|" -e "s|^		<key>LANG</key>|		<key>HOME</key>\\
		<string>$(escape "$home")</string>\\
&|"
}

is_loaded() {
    launchctl print "$domain/$label" >/dev/null 2>&1
}

stop_job() {
    if $dry_run; then
        echo "would stop the job, if it runs: launchctl bootout $domain/$label"
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

# Print the command for a virtual environment, or how to get a Python that is new enough.
how_to_install() {
    local python install="'$venv/bin/pip' install '$repository'"
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python -m venv '$venv' && $install"
            return
        fi
    done
    echo "gymdbd needs Python 3.11 or newer, and Apple's python3 is older. Get one that no update \
replaces, with uv (https://docs.astral.sh/uv): uv venv --seed --python 3.13 '$venv' && $install"
}

check_parts() {
    if [ ! -x "$venv/bin/gymdbd" ]; then
        refuse "no gymdbd in $venv: $(how_to_install)"
    elif ! "$venv/bin/python" -c "" 2>/dev/null; then
        refuse "the Python of $venv is gone, as after an update of Homebrew: \
rm -r '$venv' && $(how_to_install)"
    fi
    [ -f "$config" ] || refuse "no configuration: write $config"
    # Print an error in the configuration here, not only in the job's log.
    as_user "$venv/bin/gymdbd" -c "$config" schedule --count 1
}

# What the configuration needs is asked even in a dry run. Without an extra somebody may not be told,
# but the jobs run: so go on, and say so at the end.
install_extras() {
    local extra as=()
    ! $daemon || as=(sudo -u "$user")
    needs="$(${as[@]+"${as[@]}"} "$venv/bin/gymdbd" -c "$config" check --needs 2>/dev/null)" || needs=""
    for extra in $(wanted_extras); do
        as_user "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${repository}[$extra]" ||
            lacking="$lacking $extra"
    done
}

# Two of them would run the same jobs.
refuse_other() {
    local other="${DESTDIR:-}/Library/LaunchDaemons/$label.plist" without="sudo $0 --daemon --uninstall"
    if $daemon; then
        other="$home/Library/LaunchAgents/$label.plist"
        without="as $user: $0 --uninstall"
    fi
    [ ! -e "$other" ] || refuse "gymdbd is installed as $other: remove that first ($without)"
}

start_job() {
    local code=0
    run launchctl enable "$domain/$label" || code=$?
    [ "$code" -ne 0 ] || run launchctl bootstrap "$domain" "$plist" || code=$?
    [ "$code" -ne 0 ] || return 0
    case " $no_session " in
    *" $code "*) ;;
    *) ! launchctl print "$domain" >/dev/null 2>&1 ||
        fail "launchd refuses $plist (launchctl: $code): it may be disabled (launchctl print-disabled $domain)" ;;
    esac
    $daemon && fail "launchd refuses $plist (launchctl: $code)"
    fail "nobody is logged in at this Mac's screen as $(id -un), so no agent can start (launchctl: \
$code). It starts at the next login. Without a login, and after a power cut, only a LaunchDaemon runs: \
$0 --uninstall, then sudo $0 --daemon"
}

install_all() {
    choose_domain
    check_extras
    refuse_other
    check_parts
    install_extras
    run mkdir -p "$agents"
    as_user mkdir -p -m 700 "$logs"
    write_plist
    stop_job
    start_job
    [ -z "$lacking" ] || fail "gymdbd runs, but pip could not install what it needs for:$lacking (its \
messages are above): connect this Mac to a network, then run this again; if $venv has no pip, \
'$venv/bin/python' -m ensurepip installs it"
    $dry_run || echo "$label runs; its log is $logs/stderr.log"
    ! $daemon || echo "It runs as $user without a login, and so without the SSH agent and the \
keychain: a key with a passphrase does not work. A key of its own that can only pull suits it: \
gymdbd authorize"
}

remove() {
    choose_domain
    stop_job
    run rm -f "$plist"
    echo "kept: $config, $logs, and everything that gymdbd has written"
}
