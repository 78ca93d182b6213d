"""SMTP submission over real sockets: clients, logins, messages, hostile dialogues, TLS, limits."""
