"""Login, OpenID Connect and the session of the browser."""
