"""What happened, for those who ask later."""
