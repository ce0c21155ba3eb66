"""The command line's commands, a file each: what is heavy is imported only by the command that needs it."""
