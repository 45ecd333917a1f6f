"""gymdbd keeps a live SQLite database safe: nightly verified backups and proven replicas.

Its rooms, from top to bottom. A module imports from rooms below its own, never from one above:

    cli         argv to a verb; the one place where an error becomes text and an exit code
    commands    the verbs, one a module: parse, call, print
    terminal    output, completion, options, and which database or backup a word means
    daemon      the loop, the scheduler, the child processes, systemd
    notices     being told: what is worth a message, and to whom it goes; metrics, the page
    runs        one run of a job: lock, deadline, retry, outcome; the status file and health
    machine     the machine itself: its disks, their wear, its power
    jobs        what a run does, a folder for each kind of job
    archive     the folder of backups: catalog, manifests, marks, proofs, retention, gates
    rows        comparing two databases row by row, and rescuing rows
    remote      the other machine: the pulling side, and SSH
    sqlite      what only this machine does to databases: checkpoints, overwriting, soundness
    log         structured events, for journald, a terminal or a file
    config      YAML to frozen dataclasses
    lock        locks that die with their process
    trust       whether others could have written what we obey
    acting      as whom root acts: as the owner of what it is pointed at
    terms       what a restricted key is served, and how often
    places      places that processes take and leave, written nowhere
    files       files that appear whole or not at all
    partials    files that are not finished yet
    bounded     reading small files that others may have written
    disk        what a disk refuses, in gymdbd's words
    mounts      how the file system of a path is mounted
    origin      which database a backup is of
    names       comparing the names of files
    schedule    when a job is due
    when        a moment as people name it: yesterday, Tue 14:00, 3d
    clock       instants and intervals
    groups      groups of processes
    words       phrases that several messages share
    errors      the failures of this machine
    source      reading a source, beside it: all that travels to the other machine
"""

__version__ = "0.1.0"
