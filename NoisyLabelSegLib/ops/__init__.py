"""Operators: one idea a file, a slow reference beside each fast one."""
