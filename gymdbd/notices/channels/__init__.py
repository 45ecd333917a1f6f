"""The ways to a person: the web, e-mail, a program, and the services of apprise."""
