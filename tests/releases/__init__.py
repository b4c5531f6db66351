"""Records of releases, and the program that makes them."""
