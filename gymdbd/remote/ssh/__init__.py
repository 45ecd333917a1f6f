"""SSH connections: how to reach a host, log in and check its key. The only user of paramiko."""
