"""What ``python -m training`` can be told: each file adds some commands to the parser."""
