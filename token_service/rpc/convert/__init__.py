"""Messages to commands, and results to messages."""
