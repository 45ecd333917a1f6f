"""The configuration: YAML to frozen dataclasses."""
