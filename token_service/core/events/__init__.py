"""Events for the audit trail."""
