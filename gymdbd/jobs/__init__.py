"""What a run does: takes its config and a context, returns a result; knows no scheduler."""
