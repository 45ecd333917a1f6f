"""The words of notices in English: for each code what happened and what to do."""

from __future__ import annotations

_LOOK = "run gymdbd status on that machine: it reports the cause and what to do"
_CHECK = "run gymdbd check: it reports what is wrong with this job"
_DATABASE = "correct database: in the configuration, or put the file back"
_REACH = "switch that machine on and check its network; the next run tries again"
_LOGIN = "log in by ssh from this machine, as the user of gymdbd, and do what it reports"
_PRIVATE = "put the secret where the configuration says, readable by the user of gymdbd alone"
_DISK = "look at the disk (dmesg, mount); if it is failing, save its data now"

# A code to what happened and what to do; the error's own hint is better, if there is one.
REASONS: dict[str, tuple[str, str]] = {
    "acting": ("root may not act as the owner of a folder", _CHECK),
    "another-database": (
        "the other machine serves another database",
        "correct the path of the remote database, or the key's line over there",
    ),
    "another-file": (
        "the application has another database file open than the one that is backed up",
        "restart the application, so that it opens the file at the database's path",
    ),
    "authentication": ("the other machine does not accept our SSH key", _LOGIN),
    "backup-ambiguous": ("the backups are of several databases", _CHECK),
    "backup-damaged": (
        "a backup is damaged",
        "fetch a good copy (gymdbd verify --repair), and check the disk",
    ),
    "backup-missing": ("there is no backup", "make one: gymdbd backup"),
    "backups-gone": (
        "the archive no longer has a good backup",
        "find out who removed them, and make a new one: gymdbd backup {job}",
    ),
    "busy": ("another run uses the same files", "wait until it is done"),
    "channel-refused": ("the other machine accepts the login and no session", _LOGIN),
    "clock-wrong": ("a clock shows a wrong time", "set the clock of both machines"),
    "command-missing": ("the other machine lacks a command", "install it over there"),
    "config": ("the configuration is invalid", "run gymdbd check, and correct what it names"),
    "connect-refused": ("no SSH server answers on the other machine", _REACH),
    "connect-timeout": ("the other machine does not answer", _REACH),
    "connection-lost": ("the connection to the other machine broke", _REACH),
    "copy-damaged": ("a copy is damaged", _DISK),
    "copy-torn": (
        "the database did not rest while it was copied",
        "let the pull use method: query, or pull when nothing is written",
    ),
    "crashed": (
        "the process of the run died",
        "look for the out-of-memory killer (dmesg); the next run happens as usual",
    ),
    "daemon-down": (
        "the daemon of gymdbd is not running, so nothing is backed up",
        "start it: gymdbd status on that machine reports the command",
    ),
    "daemon-unseen": (
        "it is unknown whether the daemon runs",
        "run gymdbd as the user of the daemon",
    ),
    "daemon-was-down": (
        "the daemon of gymdbd did not run: the machine was off, or the service stopped",
        "nothing, if the machine was switched off; otherwise look at the daemon's log",
    ),
    "deadline": ("the run took longer than its timeout", "find out what is slow, or raise timeout"),
    "destination": ("the place of the backups cannot be used", _CHECK),
    "disk-full": (
        "the disk is full",
        "free some space, or let the job keep fewer backups (keep:)",
    ),
    "disk-failing": (
        "the disk or card has failed",
        "save the database first: gymdbd emergency on the machine that pulls it; then replace it",
    ),
    "disk-full-soon": (
        "a disk will be full soon",
        "free some space, or let the jobs keep fewer backups (keep:)",
    ),
    "drill-failed": (
        "a rehearsed restore failed",
        "run gymdbd drill by hand, and look at what it reports",
    ),
    "extra-missing": (
        "a package that a channel needs is not installed",
        "install it: gymdbd[notify]",
    ),
    "failed": ("it failed", _LOOK),
    "folder-missing": (
        "a folder is missing",
        "create it, or plug in and mount the disk that has it",
    ),
    "format": ("a file of gymdbd is damaged", _LOOK),
    "host-key-changed": (
        "the other machine presents another host key than the known one",
        "find out why before you accept the new key: it may be somebody else's machine",
    ),
    "host-key-unknown": (
        "the host key of the other machine is unknown",
        "compare its fingerprint and add it to known_hosts",
    ),
    "host-not-found": ("the name of the other machine has no address", _REACH),
    "in-future": ("the last success is in the future", "set the clock of the machine"),
    "library-missing": ("the SSH library is not installed", "install gymdbd again"),
    "name-too-long": ("a file name is too long for this disk", "choose a shorter name"),
    "never-came": ("the other machine has not come yet", "let it pull once"),
    "newest-too-old": (
        "the newest row of the database is too old",
        "check that the application still writes",
    ),
    "newest-undated": (
        "the newest row of the database has no date",
        "correct newest: in the configuration",
    ),
    "no-backup": ("there is no good backup yet", "make one: gymdbd backup"),
    "no-locks": ("the file system has no locks", "keep the files on a disk of this machine"),
    "no-room": (
        "the next backup does not fit on the disk",
        "free some space, or let the job keep fewer backups (keep:)",
    ),
    "no-route": ("the network has no way to the other machine", _REACH),
    "not-allowed": (
        "the user of gymdbd may not use a file or folder",
        "give it the permission: gymdbd check reports which",
    ),
    "not-answering": ("a disk or network mount does not answer", _DISK),
    "not-ours": ("another file has the place of one of gymdbd's", "move it away"),
    "not-owner": (
        "the database belongs to another user",
        "run gymdbd as its owner, or as root",
    ),
    "not-run-yet": ("it has not run yet", "nothing: it runs when it is due"),
    "not-scheduled": (
        "the daemon does not know the job",
        "let it load the configuration again: gymdbd status on that machine reports the command",
    ),
    "not-started": ("a run did not start when it was due", "look at the daemon's log"),
    "not-told": ("a message could not be sent", "run gymdbd notify --test"),
    "not-writable": ("a folder cannot be written", "let the user of gymdbd write there"),
    "peer-away": (
        "the other machine has not come for too long",
        "see whether it is on and connected, and what gymdbd status reports there",
    ),
    "peer-more": ("the other machine has more jobs than it tells of", "nothing"),
    "peer-silent": (
        "the daemon of the other machine has stopped noting how its jobs are",
        "see whether it is running there: gymdbd status on that machine",
    ),
    "peer-unheard": (
        "nothing has been heard of the jobs of the other machine for too long",
        "see whether it can be reached, and run gymdbd status there",
    ),
    "peer-unseen": (
        "it cannot be seen when the other machine came",
        "run gymdbd check: it reports what is wrong with the folder of these notes",
    ),
    "peer-untold": ("the other machine does not tell how its jobs are", "update gymdbd there"),
    "place": (
        "the database could not be put in its place on the other machine",
        "run gymdbd rebuild again: it says what is in the way",
    ),
    "place-taken": (
        "there is a database on the other machine already",
        "look at it, then run gymdbd rebuild --replace",
    ),
    "protocol": (
        "the other machine answers what gymdbd does not understand",
        "use the same release of gymdbd on both machines",
    ),
    "proxy": ("the jump host did not reach the other machine", _REACH),
    "pruning-stopped": (
        "old backups are no longer removed",
        "repair or restore the database; pruning resumes with the next good backup",
    ),
    "python-too-old": ("the other machine's python3 is too old", "install Python 3.9 or newer"),
    "read-only": ("a disk has become read-only", _DISK),
    "read-failed": ("a file could not be read", _DISK),
    "receiver-away": ("the receiver of messages could not be reached", "check the network"),
    "receiver-refused": ("the receiver refuses messages", "check the address and the password"),
    "remote": ("there is trouble with the other machine", _LOOK),
    "remote-command": ("a command failed on the other machine", _LOGIN),
    "replica-changed": (
        "the replica was changed on this machine",
        "move it away, or let the next pull save and replace it (on_local_change: backup)",
    ),
    "replica-gone": ("the replica is gone", "pull it again: gymdbd pull {job}"),
    "replica-in-use": ("a program writes to the replica", "close it, and pull again"),
    "secret": ("a secret cannot be read", _PRIVATE),
    "secret-command": ("the command that prints a secret failed", "run it by hand"),
    "secret-exposed": ("others may read a secret", _PRIVATE),
    "secret-missing": ("a secret is missing", _PRIVATE),
    "shell-noise": (
        "the shell of the other machine prints something at login",
        "let its start files print nothing if there is no terminal",
    ),
    "source": ("there is trouble with the database", _CHECK),
    "source-corrupt": (
        "the database is damaged",
        "stop the application and restore a good backup: gymdbd restore",
    ),
    "source-empty": ("the database is empty: a file of zero bytes", "restore a good backup"),
    "source-locked": (
        "the database stayed locked",
        "find the program that locks it; the next run tries again",
    ),
    "source-missing": ("the database is missing", _DATABASE),
    "source-moved": ("the database was written while it was read", "the next run tries again"),
    "source-not-a-database": ("the file is no SQLite database", _DATABASE),
    "source-not-a-file": ("the path of the database is not a file", _DATABASE),
    "source-unread": ("the database cannot be read from its disk", _DISK),
    "source-unreadable": ("the database cannot be read", _CHECK),
    "ssh-config": ("the settings of SSH are invalid", "correct them in the configuration"),
    "ssh-protocol": ("no SSH server that we understand answers there", _LOGIN),
    "stalled": ("the connection stands still", _REACH),
    "status-not-written": (
        "the daemon cannot write its status file",
        "let its user write to that folder, and look at the disk",
    ),
    "stopped": ("the run was stopped", "nothing: it is made up after the next start"),
    "suspicious": (
        "the newest state holds much less than the one before; old backups are preserved",
        "compare (gymdbd diff latest), then gymdbd accept {job} or gymdbd reject {job}",
    ),
    "target-in-use": ("a program has the database open", "stop it, and restore again"),
    "target-refused": ("the database cannot be restored into", _CHECK),
    "time": ("no moment is called so", "name one like 14:00, yesterday or 2026-11-20"),
    "time-zone": ("the time zone is unknown", "set TZ, or the zone of the machine"),
    "too-large": (
        "the database of the other machine is larger than it may be",
        "find out why; then raise max_size",
    ),
    "too-old": (
        "the newest backup is too old: no run has succeeded in time",
        "run gymdbd runs {job}: it shows why; the job can be run by hand",
    ),
    "under-voltage": (
        "the power supply of the machine is too weak",
        "use a power supply and a cable that are made for it",
    ),
    "unexpected": ("an unexpected error", "report this bug with the lines of the log"),
    "unreachable": ("the other machine cannot be reached", _REACH),
    "usage": ("a command line is invalid", "correct it"),
    "verification-failed": ("a copy differs from the database", _DISK),
    "worn": (
        "a memory card is worn out",
        "replace it before it fails; gymdbd backup and restore move the database",
    ),
    "write-failed": ("writing to the disk failed", _DISK),
}

WORDS = {
    "daemon": "the daemon",
    "status": "the status of gymdbd",
    "disk": "disk",
    "card": "card",
    "power": "power",
    "days": "{0} d {1} h",
    "hours": "{0} h {1} min",
    "minutes": "{0} min",
    "seconds": "{0} s",
    "late": "late",
    "failing": "failing",
    "unknown": "unknown",
    "suspicious": "suspicious",
    "ok": "well",
    "trouble": "{what} has been {state} for {lasted} (since {since}).",
    "changed": "{what} was {was} and is now {state}. The trouble began {lasted} ago (at {since}).",
    "reminder": "{what} is still {state}, for {lasted} (since {since}).",
    "ended": "{what} is well again. It was {was} for {lasted} (from {since} to {until}).",
    "down": "{what} runs again. It did not run for {lasted} (from {since} to {until}).",
    "test": "Messages of gymdbd arrive here.",
    "happened": "What happened: {0}.",
    "reason": "The message: {0}",
    "do": "What to do: {0}.",
    "simulated": "[test] {0}",
    "nothing": "This is only a test: nothing happened.",
    "title": "{machine}: {told}",
    "title-one": "{what} is {state}",
    "title-still": "{what} is still {state}",
    "title-ended": "{what} is well again",
    "title-down": "the daemon was down",
    "title-test": "a test message",
    "title-many": "{0} {1}",
    "title-again": "{0} well again",
}
