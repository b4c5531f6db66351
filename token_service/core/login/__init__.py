"""The authorization endpoint: requests of clients, and the logins elsewhere that answer them."""
