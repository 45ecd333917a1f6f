"""An emergency: a backup over there, a pull, a backup here."""
