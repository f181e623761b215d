"""The scene graph: objects, places, rooms and the agent's own path."""
