"""From the first training to bundles by one YAML: its settings, its stages, what they are worth."""
