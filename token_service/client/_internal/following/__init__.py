"""The validator's replica of the revocations, and the tasks that keep it up to date."""
