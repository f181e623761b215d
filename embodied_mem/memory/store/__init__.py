"""The store: one `.emem` file, an SQLite database that survives a power cut."""
