"""One run of a job: lock, deadline, outcome, the process it runs in; status and health."""
