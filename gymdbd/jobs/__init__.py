"""What a run does: takes its configuration and a context, returns a result; knows no scheduler.

From top to bottom; a module imports from below its own line:

    kinds       what each kind does, loaded by its name
    handled     what another user's process does with its database
    emergency   getting a database to safety, now
    rebuild     putting a database on a new machine
    drill       rehearsing a restore
    watch       whether another machine still comes
    verify      reading backups again, and repairing them
    restore     getting a backup back
    pull        bringing a remote snapshot here
    backup      making a backup, and saving a damaged database as it is
    prune       removing backups past retention
    peer        the other machine of a job
    elsewhere   a database of another user than its archive
    context     what a run is given besides its configuration
    wal_reset   SQLite's WAL-reset bug, told once
    finding     what can be found out about a job without running it
    result      what a run brings, and how that becomes JSON
"""
