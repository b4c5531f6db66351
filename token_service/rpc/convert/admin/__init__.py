"""Conversion of the messages of AdminService, a module for each part."""
