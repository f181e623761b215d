"""Pictures and reports of what the memory holds."""
