"""Speed and agreement of this project's operators, each against the library that people know."""
