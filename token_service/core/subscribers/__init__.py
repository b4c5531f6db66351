"""Who follows the stream, and what they have confirmed."""
