"""The methods of each service: convert, call, convert."""
