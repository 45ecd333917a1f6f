#!/usr/bin/env bash
# Build the Debian package of gymdbd: for the Python and the processor of the machine that this runs
# on, a Debian or Raspberry Pi OS with python3-venv. Root is not needed.
#
#   build.sh [--wheels DIR] [--output DIR]
#
# --wheels     take gymdbd and its dependencies from this folder, without a network
# --output     the folder for the package (default: this one)
#
# The same wheels give the same package, to the byte.
set -euo pipefail
umask 022

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
repository="$(dirname "$(dirname "$here")")"
wheels=""
output="$PWD"
# What the package's python3 leads to; that of a pyenv or conda is on no other machine.
python=/usr/bin/python3

fail() {
    echo "build.sh: $1" >&2
    exit "${2:-1}"
}

while [ $# -gt 0 ]; do
    case "$1" in
    --wheels | --output)
        [ -d "${2:-}" ] || fail "$1 needs a folder that is there" 2
        printf -v "${1#--}" '%s' "$(cd "$2" && pwd)"
        shift
        ;;
    -h | --help) sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" && exit 0 ;;
    *) fail "unknown argument $1 (try --help)" 2 ;;
    esac
    shift
done
command -v dpkg-deb >/dev/null || fail "there is no dpkg-deb: run this on Debian or Raspberry Pi OS"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments: sudo apt-get install python3-venv"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/package"
venv="$root/opt/gymdbd"
share="$root/usr/share"
minor="$("$python" -c 'import sys; print(sys.version_info.minor)')"
architecture="$(dpkg --print-architecture)"

# Print the date of the release, which every file of the package gets.
released() {
    sed -n 's/^RELEASED = datetime(\([0-9]*\), \([0-9]*\), \([0-9]*\), .*/\1-\2-\3/p' "$repository/gymdbd/clock.py"
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --no-compile "$@"
}

# The environment as it will lie in /opt/gymdbd, with all that can be needed: apt installs no extra.
make_environment() {
    "$python" -m venv "$venv"
    if [ -n "$wheels" ]; then
        pip_install --no-index --find-links "$wheels" 'gymdbd[notify]'
    else
        # In a copy: a build writes files beside the sources.
        mkdir "$work/checkout"
        cp -R "$repository/gymdbd" "$repository/deploy" "$repository/pyproject.toml" "$repository/README.md" \
            "$work/checkout"
        pip_install "$work/checkout[notify]"
    fi
    version="$("$venv/bin/python" -c 'import gymdbd; print(gymdbd.__version__)')"
    # In Debian's order a tilde comes before the release.
    version="$(printf '%s' "$version" | sed -E 's/\.?(a|b|rc|dev)([0-9])/~\1\2/')"
    "$venv/bin/python" -m pip uninstall --quiet --yes --root-user-action=ignore setuptools pip
}

# What the verbs print goes to the places where shells look for it.
write_completion() {
    local shell file
    while read -r shell file; do
        mkdir -p "$share/$(dirname "$file")"
        "$venv/bin/python" -m gymdbd completion "$shell" >"$share/$file"
    done <<END
bash bash-completion/completions/gymdbd
zsh zsh/vendor-completions/_gymdbd
fish fish/vendor_completions.d/gymdbd.fish
END
}

# Leave in the environment what belongs there, with the paths that hold once it is installed.
settle_environment() {
    local packages="$venv/lib/python3.$minor/site-packages"
    mkdir -p "$share/man/man1"
    gzip -9n <"$venv/share/man/man1/gymdbd.1" >"$share/man/man1/gymdbd.1.gz"
    rm -r "$venv/share" "$venv/include"
    find "$venv/bin" ! -type d ! -name 'python*' ! -name gymdbd -delete
    sed -i "s#$venv#/opt/gymdbd#g" "$venv/bin/gymdbd"
    sed -i '/^command = /d' "$venv/pyvenv.cfg"
    # pip notes there where it took a package from, and the checksums of the programs above.
    rm -f "$packages"/*.dist-info/direct_url.json
    sed -i '/^\.\.\/\.\.\/\.\.\//d;/direct_url.json/d' "$packages"/*.dist-info/RECORD
    # Now, since the service may not write there. Nobody but dpkg changes the sources: an import need
    # not look at them.
    find "$venv" -name __pycache__ -prune -exec rm -r {} +
    "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" "$venv/lib" ||
        fail "Python cannot compile what was installed: see above"
}

# The unit, gymdbd-setup and what it runs. Nothing in /etc is a file of the package, so dpkg asks
# nobody about changes: what lies there is yours.
write_service() {
    install -D -m 644 "$repository/deploy/systemd/gymdbd.service" "$root/usr/lib/systemd/system/gymdbd.service"
    install -D -m 755 "$here/setup.sh" "$root/usr/sbin/gymdbd-setup"
    install -D -m 755 "$repository/deploy/install.sh" "$share/gymdbd/deploy/install.sh"
    cp -R "$repository/deploy/systemd" "$share/gymdbd/deploy"
    rm "$share/gymdbd/deploy/systemd/gymdbd.service"
    install -m 644 "$repository/config.example.yaml" "$share/gymdbd"
    mkdir -p "$root/usr/bin" "$root/etc/gymdbd"
    ln -s /opt/gymdbd/bin/gymdbd "$root/usr/bin/gymdbd"
    ln -s /usr/share/gymdbd/config.example.yaml "$root/etc/gymdbd/config.example.yaml"
}

# gymdbd-setup(8), which is its help.
write_manual() {
    mkdir -p "$share/man/man8"
    {
        printf '.TH GYMDBD-SETUP 8 %s "gymdbd %s" "System Administration"\n' "$(released)" "$version"
        printf '.SH NAME\ngymdbd\\-setup \\- set up the service of gymdbd\n.SH DESCRIPTION\n.nf\n'
        "$here/setup.sh" --help | sed 's/-/\\-/g;s/^\./\\\&./'
        printf '.fi\n.SH SEE ALSO\n.BR gymdbd (1)\n'
    } | gzip -9n >"$share/man/man8/gymdbd-setup.8.gz"
}

# The pages with the folders that they have here, so that their links lead somewhere.
write_documents() {
    local doc="$share/doc/gymdbd" page
    while read -r page; do
        install -D -m 644 "$repository/$page" "$doc/$page"
    done < <(cd "$repository" && find README.md deploy \( -name '*.md' -o -name '*.png' -o -name '*.svg' -o -name '*.yml' \))
    ln -s ../../gymdbd/config.example.yaml "$doc/config.example.yaml"
    printf 'gymdbd (%s) stable; urgency=medium\n\n  * See deploy/docs/CHANGELOG.md beside this file.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
    {
        printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n'
        sed -n 's/^Copyright (c) /Copyright: /p' "$repository/gymdbd/LICENSE"
        printf 'License: Expat\nComment: The licences of the libraries are in\n'
        printf ' /opt/gymdbd/lib/python3.%s/site-packages/*.dist-info.\n\nLicense: Expat\n' "$minor"
        sed '1,/^Copyright/d;/./!d;s/^/ /' "$repository/gymdbd/LICENSE"
    } >"$doc/copyright"
}

# It needs the minor release of Python that it was built for: there is its environment, and there
# are modules in C.
write_control() {
    mkdir "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<END
Package: gymdbd
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Depends: libc6, python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), tzdata
Suggests: bash-completion, openssh-client
Section: database
Priority: optional
Homepage: https://github.com/gymdbd/gymdbd
Description: keep a live SQLite database safe
 Nightly verified backups of an SQLite database that an application writes to,
 replicas on other machines that are proven equal, and notices when something
 is wrong.
 .
 After the installation, gymdbd-setup sets the service up.
END
    local script
    for script in before:preinst before:prerm postinst:postinst postrm:postrm; do
        install -m 755 "$here/${script%:*}" "$root/DEBIAN/${script#*:}"
    done
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) \
        >"$root/DEBIAN/md5sums"
}

maintainer="The gymdbd authors <gymdbd@users.noreply.github.com>"
# dpkg-deb lets no file be younger than that.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(date -u -d "$(released)" +%s)}"
make_environment
write_completion
settle_environment
write_service
write_manual
write_documents
write_control
chmod -R u=rwX,go=rX "$root"
# A little larger than at the highest level, in a tenth of the time.
package="$output/gymdbd_${version}_$architecture.deb"
dpkg-deb --root-owner-group -Zxz -z1 --build "$root" "$package" >/dev/null
echo "$package"
