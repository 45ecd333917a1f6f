"""Where the unit of a machine has what is for others; of these alone, `serve` needs no YAML."""

PUBLIC_STATUS = "/run/gymdbd/status.public.json"
# Where those who pull from this machine are noted.
PEERS = "/var/lib/gymdbd-peers"
# The configuration of the machine, and the unit's StateDirectory.
CONFIGURATION = "/etc/gymdbd"
STATE = "/var/lib/gymdbd"
# Where a configuration is found that nobody names. Not the current folder, which may be anybody's.
PLACES = ("~/.config/gymdbd/config.yaml", f"{CONFIGURATION}/config.yaml")
