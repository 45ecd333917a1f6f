#!/bin/sh
# Set up the service of the Debian package gymdbd, as root: its user, its folders, a configuration
# with one nightly backup if there is none, and what the configuration needs.
#
#   gymdbd-setup [--database FILE] [--archive DIR] [--user NAME] [--dry-run]
#
# --database   the live database (default: that of the configuration)
# --archive    the folder for its backups (default ../data/backups/database from the database's folder)
# --user       the user that the service runs as (default: the owner of the database, or of the
#              folder where it is going to be)
# --dry-run    change nothing, print what would be done
#
# You can run it again at any time, as after a change of the configuration. It never overwrites what
# you may have edited: the configuration, and the files in /etc/systemd/system/gymdbd.service.d.
set -eu
case "${1:-}" in
-h | --help) sed -n '2,/^set/{/^#/!d;s/^# \{0,1\}//;p;}' "$0" ;;
*) exec /usr/share/gymdbd/deploy/install.sh --packaged "$@" ;;
esac
