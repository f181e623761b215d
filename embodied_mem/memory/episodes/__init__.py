"""Episodes: what happened when, where, and with what in view."""
