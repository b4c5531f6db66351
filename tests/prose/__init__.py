"""The check of the project's prose for plain technical English."""
