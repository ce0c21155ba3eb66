"""From an image on its own grid to a tensor a network takes, and back again."""
