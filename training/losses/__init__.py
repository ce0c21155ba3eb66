"""Losses, one family a file; MONAI's where MONAI has them."""
