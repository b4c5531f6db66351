"""Reports over a time range of the audit trail. The same trail and range give the same report."""
