"""Who may do what: authentication, authorization, OpenID Connect, same-origin checks, quotas."""
