#!/usr/bin/env bash
# The same as deploy/install.sh on a Mac. It stays because earlier releases had it here.
exec "$(dirname "${BASH_SOURCE[0]}")/../install.sh" --agent "$@"
