"""A whole lab on one machine: engines, services, and the supervisor that runs them."""
