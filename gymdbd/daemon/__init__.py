"""The daemon: its loop, the scheduler and the child processes it supervises."""
