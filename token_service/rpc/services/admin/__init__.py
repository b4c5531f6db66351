"""The parts of AdminService."""
