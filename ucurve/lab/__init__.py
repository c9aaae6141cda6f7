"""A whole lab on this machine: its engines, its services, and the process that starts, watches and stops them."""
