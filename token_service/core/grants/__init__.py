"""The grants: each turns a proof into tokens."""
