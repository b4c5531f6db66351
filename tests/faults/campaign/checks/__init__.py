"""What must hold of a recorded history. Each check is fed every record and can say at any time what it found."""
