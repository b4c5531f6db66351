"""Reports from the stored audit trail."""
