"""How well the scene graph knows a house: a robot is shown around, and its memory compared with the truth."""
