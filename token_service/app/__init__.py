"""What a node is made of, and how it is run."""
