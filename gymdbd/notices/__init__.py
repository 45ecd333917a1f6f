"""Being told: what is worth a message, to whom it goes, and the page, pings and metrics."""
