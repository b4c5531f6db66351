"""What the public modules of the client are made of. Nothing here is for users."""
